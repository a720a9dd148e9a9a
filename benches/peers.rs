//! The peers that are measured with: addresses in 127.0.0.0/8, all of which one backend answers.

/// Address number `index` of a table; tables with another `table` share none with it.
pub fn host(table: u8, index: usize) -> String {
    format!("127.{table}.{}.{}", index / 250, index % 250 + 1)
}

/// As nginx's `server` lines.
pub fn servers(table: u8, count: usize, port: u16) -> String {
    (0..count).map(|index| format!("server {}:{port};\n", host(table, index))).collect()
}

/// As an upstreams file has them.
pub fn json(table: u8, count: usize, port: u16) -> String {
    let peers: Vec<String> =
        (0..count).map(|index| format!(r#"{{"host":"{}","port":{port}}}"#, host(table, index))).collect();
    format!("[{}]", peers.join(","))
}

/// 10,000, 4.
pub fn count(peers: usize) -> String {
    match peers {
        1000.. => format!("{},{:03}", peers / 1000, peers % 1000),
        _ => peers.to_string(),
    }
}
