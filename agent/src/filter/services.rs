//! Names of ports.

use std::{fs, sync::LazyLock};

/// The TCP port that the system calls `name`, as `getservbyname` finds it, but only in `/etc/services`.
pub(super) fn port(name: &str) -> Option<u16> {
    static SERVICES: LazyLock<String> = LazyLock::new(|| fs::read_to_string("/etc/services").unwrap_or_default());
    SERVICES.lines().find_map(|line| port_in(line, name))
}

/// `name  port/tcp  alias...  # comment`
fn port_in(line: &str, name: &str) -> Option<u16> {
    let mut words = line.split('#').next()?.split_whitespace();
    let first = words.next()?;
    let port = words.next()?.strip_suffix("/tcp")?;
    if first == name || words.any(|alias| alias == name) { port.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_aliases() {
        let line = "http\t\t80/tcp\t\twww web # WorldWideWeb HTTP";
        for (name, expected) in [("http", Some(80)), ("www", Some(80)), ("web", Some(80)), ("HTTP", None), ("#", None)]
        {
            assert_eq!(port_in(line, name), expected, "{name}");
        }
        assert_eq!(port_in("domain 53/udp", "domain"), None);
        assert_eq!(port_in("# http 80/tcp", "http"), None);
        assert_eq!(port_in("", ""), None);
    }
}
