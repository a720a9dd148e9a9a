//! cbindgen makes include/dyups.h of src/ffi. `make header` writes it anew.

use std::path::Path;

const PREAMBLE: &str = "/* dyups: changes nginx upstreams while nginx runs. The C ABI.
 * Generated from src/ffi by `make header`; do not edit.
 *
 * A negative result is a dyups_code; dyups_error() then has the message. Bytes are given by pointer and length. */";

fn generate() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut config = cbindgen::Config {
        language: cbindgen::Language::C,
        header: Some(PREAMBLE.into()),
        include_guard: Some("DYUPS_H".into()),
        sys_includes: vec!["stddef.h".into(), "stdint.h".into()],
        no_includes: true,
        style: cbindgen::Style::Type,
        usize_is_size_t: true,
        cpp_compat: true,
        documentation_style: cbindgen::DocumentationStyle::C99,
        line_length: 120,
        ..Default::default()
    };
    for (from, to) in [
        ("Code", "dyups_code"),
        ("Handle", "dyups_handle"),
        ("Picked", "dyups_picked"),
        ("ProbeOrders", "dyups_probe"),
        ("ProbeNews", "dyups_news"),
        ("Given", "dyups_given"),
        ("BalanceOptions", "dyups_options"),
        ("Reply", "dyups_reply"),
        ("Routed", "dyups_routed"),
        ("Request", "dyups_request"),
        ("Slice", "dyups_slice"),
        ("Text", "dyups_text"),
        ("Tried", "dyups_tried"),
    ] {
        config.export.rename.insert(from.into(), to.into());
    }
    config.export.include = vec!["Code".into()];
    config.enumeration.rename_variants = cbindgen::RenameRule::ScreamingSnakeCase;
    let mut builder = cbindgen::Builder::new().with_config(config);
    for source in [
        "error.rs",
        "balance/pick.rs",
        "balance/tried.rs",
        "balance/picked.rs",
        "balance/route.rs",
        "ffi/edge.rs",
        "ffi/setup.rs",
        "ffi/find.rs",
        "ffi/request.rs",
        "config/balance.rs",
        "ffi/change.rs",
        "ffi/changes.rs",
        "ffi/draft.rs",
        "ffi/route.rs",
        "ffi/probe.rs",
        "ffi/text.rs",
        "ffi/slice.rs",
        "ffi/show.rs",
        "ffi/admin.rs",
    ] {
        builder = builder.with_src(root.join("src").join(source));
    }
    let mut out = Vec::new();
    builder.generate().expect("cbindgen").write(&mut out);
    prefix_codes(&String::from_utf8(out).expect("UTF-8"))
}

/// C has one name space for all enumerators: `INVALID = -1` becomes `DYUPS_INVALID = -1`.
fn prefix_codes(header: &str) -> String {
    let is_code = |line: &str| line.starts_with("  ") && line.contains(" = -") && line.ends_with(',');
    header
        .lines()
        .map(|line| if is_code(line) { format!("  DYUPS_{}\n", line.trim_start()) } else { format!("{line}\n") })
        .collect()
}

#[test]
fn the_committed_header_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("include/dyups.h");
    let header = generate();
    if std::env::var_os("DYUPS_WRITE_HEADER").is_some() {
        std::fs::write(&path, &header).expect("write");
    }
    assert_eq!(std::fs::read_to_string(&path).expect("read"), header, "run `make header`");
}
