//! The key of `hash`, as far as its text alone says whether nginx takes it.

/// Why nginx would refuse `text` as a text with variables. Whether the variables are there, nginx alone knows.
pub(super) fn why_not(text: &[u8]) -> Option<String> {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|&byte| byte == b'$') {
        rest = &rest[at + 1..];
        if let [b'1'..=b'9', tail @ ..] = rest {
            rest = tail;
            continue;
        }
        let bracket = rest.first() == Some(&b'{');
        rest = &rest[usize::from(bracket)..];
        let end = rest.iter().position(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_').unwrap_or(rest.len());
        let (name, tail) = rest.split_at(end);
        if bracket && tail.first() != Some(&b'}') && !rest.is_empty() {
            let name = String::from_utf8_lossy(name);
            return Some(format!("the closing bracket in \"{name}\" variable is missing"));
        }
        if name.is_empty() {
            return Some("invalid variable name".to_string());
        }
        rest = &tail[usize::from(bracket)..];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::why_not;

    #[test]
    fn variables_have_names_and_brackets_come_in_pairs() {
        for good in ["", "a", "$uri", "a${uri}b$host-$1", "$uri$host", "}{"] {
            assert_eq!(why_not(good.as_bytes()), None, "{good}");
        }
        for bad in ["$", "a$", "$-", "$$uri", "${", "${}", "$ uri"] {
            assert_eq!(why_not(bad.as_bytes()).as_deref(), Some("invalid variable name"), "{bad}");
        }
        assert_eq!(why_not(b"${uri").as_deref(), Some("the closing bracket in \"uri\" variable is missing"));
        assert_eq!(why_not(b"${uri-}").as_deref(), Some("the closing bracket in \"uri\" variable is missing"));
    }
}
