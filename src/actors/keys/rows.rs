//! Keys as rows of the database, and back. Must not know who asks.

use std::sync::Arc;

use crate::access::keys::{About, Hash, KeyLimits, Scopes};
use crate::config::Selection;
use crate::storage::definitions::{read, written};
use crate::storage::keys::KeyRow;

/// A key as it is written.
pub fn row(about: &About, hash: &Hash) -> KeyRow {
    let globs =
        |globs: Option<&[String]>| serde_json::to_string(globs.unwrap_or_default()).unwrap_or_default();
    let (tools, bundles) = (about.tools.as_deref(), about.bundles.as_deref());
    KeyRow {
        name: about.name.clone(),
        prefix: about.id.to_string(),
        hash: hash.iter().map(|byte| format!("{byte:02x}")).collect(),
        scopes: about.scopes.names().join(" "),
        created_at: written(about.created_at),
        expires_at: about.expires_at.map(written),
        revoked_at: about.revoked_at.map(written),
        owner: about.owner.clone(),
        tools_allow: globs(tools.map(Selection::allow)),
        tools_deny: globs(tools.map(Selection::deny)),
        bundles_allow: globs(bundles.map(Selection::allow)),
        bundles_deny: globs(bundles.map(Selection::deny)),
        requests_per_minute: about.limits.requests_per_minute.map(i64::from),
        burst: about.limits.burst.map(i64::from),
        concurrent: about.limits.concurrent.map(i64::from),
        replaced_by: about.replaced_by.as_deref().map(str::to_owned),
        grace_until: about.grace_until.map(written),
        last_used_at: about.last_used_at.map(written),
    }
}

/// A key as it was written.
///
/// # Errors
/// A sentence that says what of the row makes no sense: somebody wrote it by hand.
pub fn key(row: &KeyRow) -> Result<(Hash, About), String> {
    let globs = |allow: &str, deny: &str| -> Result<Option<Arc<Selection>>, String> {
        let list =
            |text: &str| serde_json::from_str(text).map_err(|error| format!("{text:?} is no list: {error}"));
        let selection = Selection::parse(list(allow)?, list(deny)?)?;
        Ok((!selection.is_all()).then(|| Arc::new(selection)))
    };
    let limit = |limit: Option<i64>| {
        let limit = limit.map(u32::try_from).transpose();
        limit.map_err(|_| "a limit is out of range".to_owned())
    };
    let about = About {
        id: row.prefix.as_str().into(),
        name: row.name.clone(),
        owner: row.owner.clone(),
        scopes: Scopes::parse(row.scopes.split_whitespace())?,
        tools: globs(&row.tools_allow, &row.tools_deny)?,
        bundles: globs(&row.bundles_allow, &row.bundles_deny)?,
        limits: KeyLimits {
            requests_per_minute: limit(row.requests_per_minute)?,
            burst: limit(row.burst)?,
            concurrent: limit(row.concurrent)?,
        },
        created_at: read(row.created_at),
        expires_at: row.expires_at.map(read),
        revoked_at: row.revoked_at.map(read),
        replaced_by: row.replaced_by.as_deref().map(Arc::from),
        grace_until: row.grace_until.map(read),
        last_used_at: row.last_used_at.map(read),
    };
    Ok((hash(&row.hash).ok_or("its hash is none")?, about))
}

fn hash(text: &str) -> Option<Hash> {
    let (digits, rest) = text.as_bytes().as_chunks::<2>();
    if digits.len() != 32 || !rest.is_empty() {
        return None;
    }
    let mut hash = Hash::default();
    for (byte, digits) in hash.iter_mut().zip(digits) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::access::keys::{Form, Made};

    fn about(id: &str) -> About {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        let form = Form {
            name: "Ada".to_owned(),
            owner: Some("ada".to_owned()),
            expires: Some("90d".to_owned()),
            allow: words(&["a__*"]),
            deny_bundles: words(&["x"]),
            ..Form::default()
        };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let mut about = form.check(&jiff::Zoned::now()).unwrap().into_key(id, now);
        about.limits.burst = Some(7);
        (about.replaced_by, about.grace_until) = (Some("b".into()), Some(now));
        about
    }

    #[test]
    fn a_key_comes_back_as_it_was_written() {
        let made = Made::new().unwrap();
        let about = about(&made.id);
        assert_eq!(key(&row(&about, &made.hash)), Ok((made.hash, about)));
    }

    #[test]
    fn a_row_that_was_written_by_hand_is_refused_with_what_is_wrong() {
        let made = Made::new().unwrap();
        let row = row(&about(&made.id), &made.hash);
        let wrong = |change: fn(&mut KeyRow)| {
            let mut row = row.clone();
            change(&mut row);
            key(&row).unwrap_err()
        };
        assert!(wrong(|row| row.scopes = "root".to_owned()).contains("root"));
        assert!(wrong(|row| row.tools_deny = "*".to_owned()).contains("no list"));
        assert!(wrong(|row| row.tools_deny = "[\"[\"]".to_owned()).contains("no glob"));
        assert!(wrong(|row| row.burst = Some(-1)).contains("out of range"));
        assert!(wrong(|row| row.hash = "zz".repeat(32)).contains("hash"));
    }
}
