//! What the collector of traces wants to be shown, and which settings of it make sense. Must not know how it is reached.

use super::checks::{Refuse, is_loopback};
use super::{Config, Secret, Telemetry};

impl Telemetry {
    /// The headers that the collector wants, by name.
    ///
    /// # Errors
    /// A sentence that repeats nothing of them, when they are not `name=value,name=value`.
    pub fn headers(&self) -> Result<Vec<(String, Secret)>, String> {
        let Some(text) = &self.otlp_headers else { return Ok(Vec::new()) };
        let pairs = text.expose().split(',').map(str::trim).filter(|pair| !pair.is_empty());
        let mut headers = Vec::new();
        for pair in pairs {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (name.trim_end(), value.trim_start());
            let named = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            let valued = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
            if name.is_empty() || !name.bytes().all(named) || value.is_empty() || !value.bytes().all(valued) {
                return Err(
                    "telemetry.otlp_headers are no headers; write them as name=value,name=value".to_owned()
                );
            }
            headers.push((name.to_owned(), Secret::new(value)));
        }
        Ok(headers)
    }
}

/// Refuses what makes no sense, or would give a secret away. Nothing of the URL or the headers is repeated.
pub fn check(config: &Config, refuse: &mut Refuse<'_>) {
    let telemetry = &config.telemetry;
    let Some(endpoint) = &telemetry.otlp_endpoint else {
        if telemetry.otlp_headers.is_some() {
            let sentence = "telemetry.otlp_headers goes with telemetry.otlp_endpoint, which is not set; set both, or remove it";
            refuse("telemetry.otlp_headers", sentence.to_owned());
        }
        return;
    };
    if !cfg!(feature = "otlp") {
        let sentence =
            "telemetry.otlp_endpoint is set, but this build leaves traces out; build with the feature otlp";
        refuse("telemetry.otlp_endpoint", sentence.to_owned());
    }
    let (scheme, rest) = endpoint.split_once("://").unwrap_or_default();
    let authority = rest.split('/').next().unwrap_or_default();
    let plain = !endpoint.contains(['?', '#', '@']) && endpoint.bytes().all(|byte| byte.is_ascii_graphic());
    if !matches!(scheme, "http" | "https") || authority.is_empty() || !plain {
        let sentence = "telemetry.otlp_endpoint takes a URL as http://127.0.0.1:4318, without a password or a query; what \
                        the collector wants to be shown goes into telemetry.otlp_headers";
        refuse("telemetry.otlp_endpoint", sentence.to_owned());
    }
    let host = authority.rsplit_once(':').map_or(authority, |(host, port)| {
        if port.bytes().all(|byte| byte.is_ascii_digit()) { host } else { authority }
    });
    if telemetry.otlp_headers.is_some() && scheme == "http" && !is_loopback(host) {
        let sentence = "telemetry.otlp_headers would cross the network in the clear; use https:// in telemetry.otlp_endpoint";
        refuse("telemetry.otlp_headers", sentence.to_owned());
    }
    if let Err(sentence) = telemetry.headers() {
        refuse("telemetry.otlp_headers", sentence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(text: &str) -> Result<Vec<(String, String)>, String> {
        let otlp_headers = Some(Secret::new(text));
        let telemetry = Telemetry { otlp_endpoint: None, otlp_headers, sample_per_mille: 0, queue_max: 1 };
        let shown = |(name, value): (String, Secret)| (name, value.expose().to_owned());
        telemetry.headers().map(|headers| headers.into_iter().map(shown).collect())
    }

    #[test]
    fn headers_are_names_and_values_and_their_faults_repeat_no_secret() {
        let both =
            [("authorization".to_owned(), "Basic a==".to_owned()), ("x-scope".to_owned(), "b".to_owned())];
        assert_eq!(headers("authorization=Basic a==, x-scope=b").unwrap(), both);
        assert_eq!(headers("").unwrap(), []);
        for bad in ["hunter2", "=hunter2", "a b=hunter2", "a=hunter2\r\nb: c", "a="] {
            assert!(!headers(bad).unwrap_err().contains("hunter2"), "{bad:?}");
        }
    }
}
