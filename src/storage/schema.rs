//! The tables and the view, as Diesel needs them; true to both sets of migrations. Must not know what rows mean.

diesel::table! {
    command_history (id) {
        id -> BigInt,
        instance_id -> Text,
        seq -> BigInt,
        call_id -> Text,
        round -> Integer,
        kind -> Text,
        created_at -> Timestamp,
        method -> Nullable<Text>,
        plugin -> Nullable<Text>,
        tool -> Nullable<Text>,
        caller -> Nullable<Text>,
        client -> Nullable<Text>,
        session -> Nullable<Text>,
        protocol_version -> Nullable<Text>,
        status -> Nullable<Text>,
        error_code -> Nullable<Text>,
        duration_us -> Nullable<BigInt>,
        arguments -> Nullable<Text>,
        result_bytes -> Nullable<BigInt>,
        request_id -> Nullable<Text>,
        trace_id -> Nullable<Text>,
        detail -> Nullable<Text>,
        plugin_instance -> Nullable<Text>,
        queue_us -> Nullable<BigInt>,
        upstream_us -> Nullable<BigInt>,
        bytes_out -> Nullable<BigInt>,
        bytes_in -> Nullable<BigInt>,
        bridged -> Nullable<Text>,
        hash -> Nullable<Binary>,
    }
}

diesel::table! {
    command_history_calls (id) {
        id -> BigInt,
        call_id -> Text,
        round -> Integer,
        kind -> Text,
        created_at -> Timestamp,
        instance_id -> Text,
        method -> Nullable<Text>,
        plugin -> Nullable<Text>,
        tool -> Nullable<Text>,
        caller -> Nullable<Text>,
        client -> Nullable<Text>,
        session -> Nullable<Text>,
        protocol_version -> Nullable<Text>,
        status -> Text,
        error_code -> Nullable<Text>,
        duration_us -> Nullable<BigInt>,
        result_bytes -> Nullable<BigInt>,
        request_id -> Nullable<Text>,
        trace_id -> Nullable<Text>,
        detail -> Nullable<Text>,
        plugin_instance -> Nullable<Text>,
        queue_us -> Nullable<BigInt>,
        upstream_us -> Nullable<BigInt>,
        bytes_out -> Nullable<BigInt>,
        bytes_in -> Nullable<BigInt>,
        bridged -> Nullable<Text>,
    }
}

diesel::table! {
    ledger_checkpoints (id) {
        id -> BigInt,
        instance_id -> Text,
        seq -> BigInt,
        hash -> Binary,
        kind -> Text,
        created_at -> Timestamp,
        mac -> Binary,
        key_id -> Text,
    }
}

diesel::table! {
    tool_definitions (plugin, tool) {
        plugin -> Text,
        tool -> Text,
        digest -> Text,
        first_seen_at -> Timestamp,
        changed_at -> Nullable<Timestamp>,
        previous_digest -> Nullable<Text>,
    }
}

diesel::table! {
    api_keys (id) {
        id -> BigInt,
        name -> Text,
        prefix -> Text,
        hash -> Text,
        scopes -> Text,
        created_at -> Timestamp,
        expires_at -> Nullable<Timestamp>,
        revoked_at -> Nullable<Timestamp>,
        owner -> Nullable<Text>,
        tools_allow -> Text,
        tools_deny -> Text,
        bundles_allow -> Text,
        bundles_deny -> Text,
        requests_per_minute -> Nullable<BigInt>,
        burst -> Nullable<BigInt>,
        concurrent -> Nullable<BigInt>,
        replaced_by -> Nullable<Text>,
        grace_until -> Nullable<Timestamp>,
        last_used_at -> Nullable<Timestamp>,
    }
}

diesel::table! {
    instances (instance_id) {
        instance_id -> Text,
        started_at -> Timestamp,
        seen_at -> Timestamp,
        stopped_at -> Nullable<Timestamp>,
        host -> Text,
        pid -> BigInt,
        version -> Text,
    }
}

diesel::table! {
    sessions (id_hash) {
        id_hash -> Text,
        principal -> Text,
        path -> Text,
        view -> Nullable<Text>,
        revision -> Text,
        client -> Nullable<Text>,
        capabilities -> Text,
        log_level -> Nullable<Text>,
        subscriptions -> Text,
        instance_id -> Text,
        used_at -> Timestamp,
        expires_at -> Timestamp,
    }
}

diesel::table! {
    generation (id) {
        id -> Integer,
        counter -> BigInt,
    }
}
