//! Whatever a file may say is written so that it is read as the same.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use crate::config::plugin::*;

fn text() -> impl Strategy<Value = String> {
    // Whatever TOML must escape, and what it must not.
    "[ -~\u{e4}\u{1f600}\n\t\"'\\\\\u{1}\u{7f}\u{85}]{1,12}"
}

fn credentials(names: &'static str) -> impl Strategy<Value = BTreeMap<String, Credential>> {
    let value = prop_oneof![
        "[a-z '\"\\\\=]{0,8}",
        Just("${A_B} x".to_owned()),
        Just("env:A".to_owned()),
        Just("file:/a b".to_owned())
    ];
    proptest::collection::btree_map(names, value.prop_map(Credential), 0..3)
}

/// Any that a file may say.
fn quota([requests_per_minute, burst, concurrent]: [Option<u16>; 3]) -> Quota {
    let limit = |limit: Option<u16>| limit.map(|limit| u32::from(limit) + 1);
    let burst = limit(burst).filter(|_| requests_per_minute.is_some());
    Quota { requests_per_minute: limit(requests_per_minute), burst, concurrent: limit(concurrent) }
}

fn scope() -> impl Strategy<Value = Option<CacheScope>> {
    proptest::sample::select(vec![
        None,
        Some(CacheScope::None),
        Some(CacheScope::Private),
        Some(CacheScope::Public),
    ])
}

prop_compose! {
    fn tool()(rename in proptest::option::of("[a-z]{8}[A-Z0-9]{8}"), description in text(), hidden in proptest::option::of(any::<bool>()),
              seconds in proptest::option::of(1u64..86_400), limits in any::<[Option<u16>; 3]>(), hint in any::<bool>(), number in any::<i64>(), key in text(),
              cached in proptest::option::of(0u64..86_400), cache_scope in scope(), redact in proptest::collection::vec("(/[a-zü*]{0,3}(~[01])?){0,3}", 0..3)) -> ToolCuration {
        let annotations = Some(json!({"readOnlyHint": hint, "x": {key: [number, "a", {}]}}));
        ToolCuration { rename, description: Some(description), annotations, hidden, timeout: seconds.map(Duration::from_secs), quota: quota(limits),
                       cache: cached.map(Duration::from_secs), cache_scope, redact }
    }
}

prop_compose! {
    fn curation()(flags in any::<[bool; 4]>(), dot in any::<bool>(), instructions in proptest::option::of(text()),
                  allow in proptest::collection::vec("[a-z_*?]{1,8}", 0..3), deny in proptest::collection::vec("[a-z_*?]{1,8}", 0..3),
                  cache_scope in scope(), tools in proptest::collection::btree_map(text(), tool(), 0..3)) -> Curation {
        let [plain, prefix, hidden, front] = flags;
        let separator = if dot { Separator::Dot } else { Separator::Underscores };
        let uri_prefix = if prefix { "x+".to_owned() } else { String::new() };
        Curation { plain, separator, uri_prefix, instructions, allow, deny, hidden, cache_scope, front, tools }
    }
}

fn reach() -> impl Strategy<Value = Reach> {
    let stdio = (
        credentials("[A-Z_]{1,5}"),
        proptest::collection::vec(text(), 0..3),
        any::<[bool; 5]>(),
        any::<u32>(),
    );
    let stdio = stdio.prop_map(|(env, args, [cwd, folders, no_network, required, exclusive], limit)| {
        let limit = Some(u64::from(limit >> 12)).filter(|limit| *limit > 0);
        let folders = folders.then(|| vec![("/a b\"c".into(), true), ("/x".into(), false)]);
        let sandbox = Sandbox {
            memory_max_bytes: limit,
            files_max: limit,
            cpu_seconds_max: None,
            folders,
            no_network,
            required,
        };
        let cwd = cwd.then(|| "/srv/x y".into());
        Reach::Stdio(StdioReach {
            command: "/bin/a b".into(),
            args,
            cwd,
            env,
            inherit_env: vec!["A".into()],
            exclusive,
            sandbox,
        })
    });
    let http = (credentials("X-[a-z]{1,5}"), any::<[bool; 3]>(), 0..3u8).prop_map(
        |(headers, [tls, proxy, range], kind)| {
            let transport = match kind {
                0 => HttpTransport::Auto,
                1 => HttpTransport::Http,
                _ => HttpTransport::Sse,
            };
            let file = |name: &str| tls.then(|| name.into());
            let tls = Tls { ca: None, cert: file("/a"), key: file("/b") };
            let allow_ranges = range.then(|| "10.0.0.0/8".to_owned()).into_iter().collect();
            Reach::Http(HttpReach {
                url: "https://a.example:1/x?y".into(),
                transport,
                headers,
                tls,
                proxy,
                allow_ranges,
            })
        },
    );
    prop_oneof![stdio, http]
}

prop_compose! {
    fn file()(reach in reach(), curation in curation(), enabled in any::<bool>(), spoken in any::<bool>(), shared in any::<bool>(),
              number in 1usize..100_000, seconds in proptest::option::of(1u64..3600), open in 1u64..86_400) -> PluginFile {
        let by_default = if matches!(reach, Reach::Http(_)) { Isolation::PerClient } else { Isolation::Shared };
        let isolation = match (spoken, shared) {
            (false, _) => by_default,
            (true, true) => Isolation::Shared,
            (true, false) => Isolation::PerClient,
        };
        let mut reach = reach;
        if let (Reach::Stdio(program), Isolation::PerClient) = (&mut reach, isolation) {
            program.exclusive = false;
        }
        let limits = PluginLimits {
            concurrency: Some(number), queue_max: None, queue_timeout: seconds.map(Duration::from_secs),
            timeout: seconds.map(Duration::from_secs), breaker: Breaker { failures: 5, open: Duration::from_secs(open) },
        };
        let kind = PluginKind::Mcp(Box::new(McpServer {
            reach, isolation, isolation_spoken: spoken, sessions_max: number, session_idle: Duration::from_secs(open),
            start_timeout: Duration::from_secs(seconds.unwrap_or(30)), response_max_bytes: number + 1024, limits, curation,
        }));
        PluginFile { name: "some".into(), enabled, kind }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_as_the_same(file in file()) {
        let mut file = file;
        if let PluginKind::Mcp(server) = &mut file.kind {
            // Two tools of one name are refused.
            let mut seen = std::collections::HashSet::new();
            server.curation.tools.retain(|_, tool| tool.rename.clone().is_none_or(|name| seen.insert(name)));
        }
        let text = render(&file);
        match parse("some", &text) {
            Ok(read) => {
                prop_assert_eq!(&read, &file, "{}", text);
                prop_assert_eq!(render(&read), text);
            }
            Err(faults) => prop_assert!(false, "{}\n{}", faults, text),
        }
    }

    #[test]
    fn what_is_written_of_a_built_in_plugin_is_read_as_the_same(curation in curation(), number in 0usize..100_000, flags in any::<[bool; 4]>()) {
        let limits = PluginLimits { queue_max: Some(number), ..PluginLimits::default() };
        let mut tuning = Tuning::of(limits, &curation);
        let [plain, separator, hidden, front] = flags;
        tuning.plain = tuning.plain.filter(|_| plain);
        tuning.separator = tuning.separator.filter(|_| separator);
        tuning.hidden = tuning.hidden.filter(|_| hidden);
        tuning.front = tuning.front.filter(|_| front);
        let mut seen = std::collections::HashSet::new();
        tuning.tools.retain(|_, tool| tool.rename.clone().is_none_or(|name| seen.insert(name)));
        let file = PluginFile { name: "files".into(), enabled: true, kind: PluginKind::Builtin(Box::new(tuning)) };
        let text = render(&file);
        match parse("files", &text) {
            Ok(read) => prop_assert_eq!(&read, &file, "{}", text),
            Err(faults) => prop_assert!(false, "{}\n{}", faults, text),
        }
    }

    #[test]
    fn no_text_makes_the_reader_fall(text in "[a-z\"=\\[\\]{}.\n$:]{0,60}", name in ".{0,5}") {
        let _either = parse(&name, &text);
        let _either = import(&text);
    }
}
