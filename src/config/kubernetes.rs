//! Telling the variables that Kubernetes injects from the operator's own.
//!
//! For each Service of its namespace a pod gets `{SERVICE}_SERVICE_HOST`, `{SERVICE}_SERVICE_PORT[_NAME]`,
//! `{SERVICE}_PORT=tcp://…` and `{SERVICE}_PORT_{n}_{TCP|UDP|SCTP}[_PROTO|_PORT|_ADDR]`; a Service named `waygate`, or
//! `waygate-…`, makes them look like ours. Must not know settings.

/// Whether Kubernetes put this variable into the environment.
pub fn injects(name: &str, value: &str) -> bool {
    let is_url = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    let is_host = name.ends_with("_SERVICE_HOST");
    let is_port = name.ends_with("_SERVICE_PORT") || name.contains("_SERVICE_PORT_");
    is_host || is_port || (name.ends_with("_PORT") && is_url) || is_port_member(name)
}

fn is_port_member(name: &str) -> bool {
    let name = ["_PROTO", "_PORT", "_ADDR"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
    let Some(name) = ["_TCP", "_UDP", "_SCTP"].iter().find_map(|end| name.strip_suffix(end)) else {
        return false;
    };
    let number = name.rsplit_once("_PORT_").map(|(_, number)| number);
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn injected_variables_are_told_from_our_own() {
        for (name, value) in [
            ("WAYGATE_SERVICE_HOST", "10.0.0.1"),
            ("WAYGATE_SERVICE_PORT", "8000"),
            ("WAYGATE_SERVICE_PORT_HTTP", "8000"),
            ("WAYGATE_PORT", "tcp://10.0.0.1:8000"),
            ("WAYGATE_PORT_8000_TCP", "tcp://10.0.0.1:8000"),
            ("WAYGATE_PORT_8000_TCP_PROTO", "tcp"),
            ("WAYGATE_PORT_8000_TCP_PORT", "8000"),
            ("WAYGATE_PORT_8000_TCP_ADDR", "10.0.0.1"),
            ("WAYGATE_MCP_SERVICE_HOST", "10.0.0.1"),
            ("WAYGATE_MCP_PORT_53_UDP", "udp://10.0.0.1:53"),
        ] {
            assert!(injects(name, value), "{name}");
        }
        for (name, value) in [
            ("WAYGATE_PORT", "8000"),
            ("WAYGATE_PORT", "http://x"),
            ("WAYGATE_HOST", "tcp://x"),
            ("WAYGATE_PORT_HTTP_TCP", "1"),
            ("WAYGATE_PORTS", "1"),
        ] {
            assert!(!injects(name, value), "{name}={value}");
        }
        assert!(super::super::settings::SETTINGS.iter().all(|setting| !injects(setting.variable, "1")));
    }
}
