//! Secrets by name, by looks and within JSON; what is cut stays JSON.

use super::*;

const JWT: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl";

#[test]
fn secrets_are_known_by_name_however_spelt() {
    for secret in [
        "password",
        "userPassword",
        "DB_PASSWD",
        "token",
        "access_token",
        "authToken",
        "accesstoken",
        "X-API-Key",
        "apiKey",
        "api key",
        "Authorization",
        "Set-Cookie",
        "aws_secret_access_key",
        "privateKey",
        "clientSecret",
        "credentials",
        "pwd",
        "jwt",
    ] {
        assert!(is_secret_name(secret, &[]), "{secret}");
    }
    for open in [
        "path",
        "tokens",
        "max_tokens",
        "token_count",
        "tokenizer",
        "progressToken",
        "author",
        "keyboard",
        "key",
        "pinned",
        "compass",
        "",
    ] {
        assert!(!is_secret_name(open, &[]), "{open}");
    }
    assert!(is_secret_name("customerIban", &["customer_iban".to_owned()]));
}

#[test]
fn secrets_are_known_by_their_looks_within_any_text() {
    let secrets = [
        "Authorization: Bearer abcdefgh12345678",
        "key sk-abcdefghijklmnopqrstuvwxyz, please",
        "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
        "id=AKIAIOSFODNN7EXAMPLE",
        "postgres://waygate:hunter2@db/waygate",
        "a\n-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\nb",
        "password=hunter2",
        "Basic 12345678",
        "otp:123",
    ];
    for text in secrets.into_iter().chain([JWT]) {
        assert!(secret_in(text).is_some(), "{text}");
    }
    for open in
        ["sk-ipping", "a bearer of news", "http://x/a:b@c", "2026-01-01 12:00:00", "eyJ.x.y", "path=/tmp/x"]
    {
        assert_eq!(secret_in(open), None, "{open}");
    }
}

#[test]
fn only_the_secret_part_of_a_text_is_masked() {
    assert_eq!(
        mask("to postgres://u:p@db/x, with Bearer abcdefgh1234, ok"),
        "to postgres://********@db/x, with Bearer ********, ok"
    );
    assert_eq!(mask(&format!("ä {JWT} ü {JWT}")), "ä ******** ü ********");
    assert_eq!(mask("a -----BEGIN KEY-----\nx\n-----END KEY----- b"), "a ******** b");
    assert!(matches!(mask("nothing to hide"), Cow::Borrowed(_)));
}

#[test]
fn arguments_keep_all_but_their_secrets() {
    let raw = r#" {"path": "a\nb", "n": [1, -2, 1.5, true, null, {}], "login": {"user": "u", "password": {"x": [1]}}, "note": "Bearer abcdefgh1234"} "#;
    let wanted = r#"{"path":"a\nb","n":[1,-2,1.5,true,null,{}],"login":{"user":"u","password":"********"},"note":"********"}"#;
    assert_eq!(redact(raw, &[]), wanted);
    assert_eq!(redact(r#"{"iban":"DE1"}"#, &["IBAN".to_owned()]), r#"{"iban":"********"}"#);
    assert_eq!(redact("[]", &[]), "[]");
    assert_eq!(redact("{\"secret", &[]), "\"(not JSON)\"");
}

#[test]
fn a_shape_has_keys_and_types_and_no_value() {
    let raw = r#"{"path":"x","n":[1,2,3],"none":[],"deep":{"password":"p","f":1.5,"b":false,"z":null},"list":[{"a":1},7]}"#;
    let wanted = r#"{"path":"string","n":["integer"],"none":[],"deep":{"password":"string","f":"number","b":"boolean","z":"null"},"list":[{"a":"integer"}]}"#;
    assert_eq!(shape(raw), wanted);
}

#[test]
fn what_is_long_is_cut_and_stays_json() {
    let long = format!(r#"{{"a":[{}],"b":"{}"}}"#, "1,".repeat(3000) + "1", "x".repeat(9000));
    let nested = format!("{}1{}", r#"{"k":["#.repeat(60), "]}".repeat(60));
    let many: Vec<String> = (0..2000).map(|n| format!("\"k{n}\":{{\"x\":[]}}")).collect();
    let many = format!("{{{}}}", many.join(","));
    let texts = format!("[{}\"\"]", format!("\"{}\",", "ä".repeat(700)).repeat(9));
    for raw in [&long, &nested, &many, &texts] {
        for text in [redact(raw, &[]), shape(raw)] {
            assert!(text.len() <= TEXT_MAX_BYTES, "{} bytes", text.len());
            let parsed: Result<serde_json::Value, _> = serde_json::from_str(&text);
            assert!(parsed.is_ok(), "{text}");
        }
    }
    assert!(redact(&long, &[]).ends_with("1,\"…\"]}"), "{}", redact(&long, &[]));
    assert!(redact(&many, &[]).ends_with(",\"…\":\"…\"}"));
    assert!(redact(&texts, &[]).contains("… (1400 bytes)"));
}

#[test]
fn a_long_text_is_masked_for_a_secret_that_begins_where_it_is_shown_and_ends_far_behind() {
    let jwt = format!("eyJ{}.eyJ{}.{}", "a".repeat(4_000), "b".repeat(9_000), "c".repeat(300));
    for (before, after) in [(0, 0), (1_000, 0), (1_020, 100_000)] {
        let text = format!("\"{} {jwt} {}\"", "w ".repeat(before / 2), "w ".repeat(after / 2));
        assert_eq!(redact(&text, &[]), format!("\"{MASK}\""), "{before} {after}");
    }
    let pem = format!("\"-----BEGIN PRIVATE KEY-----{}\"", "a".repeat(100_000));
    assert_eq!(redact(&pem, &[]), format!("\"{MASK}\""));
    let far = format!("\"{}{jwt}\"", "w ".repeat(50_000));
    let shown = redact(&far, &[]);
    assert!(shown.starts_with("\"w w ") && !shown.contains("eyJ"), "{shown}");
}
