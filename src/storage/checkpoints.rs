//! `ledger_checkpoints`: where chains stood, under a seal that needs a key. Must not know where keys come from, nor what the
//! rows of a chain say.

use std::time::SystemTime;

use chrono::NaiveDateTime;
use diesel::dsl::max;
use diesel::{
    ExpressionMethods as _, Insertable, QueryDsl as _, QueryResult, Queryable, RunQueryDsl as _, Selectable,
    SelectableHelper as _,
};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use super::DbConnection;
use super::history::chain::{Head, hex};
use super::history::moment;
use super::schema::ledger_checkpoints;

/// What of a secret is used here, and nowhere else.
const PURPOSE: &[u8] = b"waygate ledger checkpoints 1";
const KEY_ID_BYTES: usize = 4;

/// Why there is a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// So many rows or so much time had passed.
    Checkpoint,
    /// The instance stopped; nothing follows.
    Head,
    /// All up to here was deleted on purpose.
    Pruned,
}

impl Mark {
    /// The word in the table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Checkpoint => "checkpoint",
            Self::Head => "head",
            Self::Pruned => "pruned",
        }
    }
}

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = ledger_checkpoints)]
pub struct Checkpoint {
    /// In the order of their writing.
    pub id: i64,
    /// Whose chain.
    pub instance_id: String,
    /// Its last row then.
    pub seq: i64,
    /// That row's hash.
    pub hash: Vec<u8>,
    /// See [`Mark`].
    pub kind: String,
    /// When, UTC.
    pub created_at: NaiveDateTime,
    /// What only the key makes.
    pub mac: Vec<u8>,
    /// Which key that is.
    pub key_id: String,
}

#[derive(Insertable)]
#[diesel(table_name = ledger_checkpoints)]
struct NewCheckpoint<'a> {
    instance_id: &'a str,
    seq: i64,
    hash: &'a [u8],
    kind: &'a str,
    created_at: NaiveDateTime,
    mac: Vec<u8>,
    key_id: &'a str,
}

/// Whether a checkpoint is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// It is as we made it.
    Holds,
    /// It was made or changed without the key.
    Broken,
    /// Its key is none of those at hand.
    Unknown,
}

/// Signs checkpoints with its first key, knows those of any of them.
#[derive(Clone, Default)]
pub struct Notary {
    keys: Vec<(String, Hmac<Sha256>)>,
}

impl Notary {
    /// From the sealing keys, the newest first.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a [u8]>) -> Self {
        // A MAC takes keys of any length: nothing is left out.
        let keyed = |key: &[u8]| Hmac::<Sha256>::new_from_slice(key).ok();
        let key_of = |secret: &[u8]| {
            let own = keyed(secret)?.chain_update(PURPOSE).finalize().into_bytes();
            let key = keyed(&own)?;
            let id = key.clone().chain_update(b"id").finalize().into_bytes();
            Some((hex(id.get(..KEY_ID_BYTES)?), key))
        };
        Self { keys: secrets.into_iter().filter_map(key_of).collect() }
    }

    /// Whether it has any key.
    pub fn has_key(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Whether a checkpoint was made by somebody with one of the keys.
    pub fn prove(&self, checkpoint: &Checkpoint) -> Proof {
        let Some((_, key)) = self.keys.iter().find(|(id, _)| *id == checkpoint.key_id) else {
            return Proof::Unknown;
        };
        let mac = feed(
            key.clone(),
            &checkpoint.instance_id,
            checkpoint.seq,
            &checkpoint.hash,
            &checkpoint.kind,
            checkpoint.created_at,
        );
        if mac.verify_slice(&checkpoint.mac).is_ok() { Proof::Holds } else { Proof::Broken }
    }

    /// Writes where a chain stands. Nothing is written without a key: it would prove nothing.
    ///
    /// # Errors
    /// What the database says.
    pub fn write(
        &self,
        connection: &mut DbConnection,
        instance_id: &str,
        head: Head,
        mark: Mark,
    ) -> QueryResult<()> {
        let Some((key_id, key)) = self.keys.first() else { return Ok(()) };
        let created_at = moment(SystemTime::now());
        let mac = feed(key.clone(), instance_id, head.seq, &head.hash, mark.name(), created_at);
        let row = NewCheckpoint {
            instance_id,
            seq: head.seq,
            hash: &head.hash,
            kind: mark.name(),
            created_at,
            mac: mac.finalize().into_bytes().to_vec(),
            key_id,
        };
        diesel::insert_into(ledger_checkpoints::table).values(row).execute(connection).map(drop)
    }
}

/// All that a checkpoint says, each part with its length.
fn feed(
    mut mac: Hmac<Sha256>,
    instance_id: &str,
    seq: i64,
    hash: &[u8],
    kind: &str,
    created_at: NaiveDateTime,
) -> Hmac<Sha256> {
    let at = created_at.and_utc().timestamp_micros();
    let parts = [instance_id.as_bytes(), &seq.to_be_bytes(), hash, kind.as_bytes(), &at.to_be_bytes()];
    for part in parts {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    mac
}

/// The checkpoint that was written last; 0 while there is none.
///
/// # Errors
/// What the database says.
pub fn last_id(connection: &mut DbConnection) -> QueryResult<i64> {
    ledger_checkpoints::table
        .select(max(ledger_checkpoints::id))
        .first::<Option<i64>>(connection)
        .map(Option::unwrap_or_default)
}

/// All instances that have checkpoints.
///
/// # Errors
/// What the database says.
pub fn instances(connection: &mut DbConnection) -> QueryResult<Vec<String>> {
    ledger_checkpoints::table.select(ledger_checkpoints::instance_id).distinct().load(connection)
}

/// The last row of an instance that was deleted on purpose.
///
/// # Errors
/// What the database says.
pub fn pruned(connection: &mut DbConnection, instance_id: &str) -> QueryResult<Option<Checkpoint>> {
    let found: Vec<Checkpoint> = ledger_checkpoints::table
        .filter(ledger_checkpoints::instance_id.eq(instance_id))
        .filter(ledger_checkpoints::kind.eq(Mark::Pruned.name()))
        .order((ledger_checkpoints::seq.desc(), ledger_checkpoints::id.desc()))
        .limit(1)
        .select(Checkpoint::as_select())
        .load(connection)?;
    Ok(found.into_iter().next())
}

/// Checkpoints of an instance that are no newer than `until_id` and follow the one at `after` (row and id), `limit` at most, in
/// the order of its rows.
///
/// # Errors
/// What the database says.
pub fn some_of(
    connection: &mut DbConnection,
    instance_id: &str,
    after: (i64, i64),
    until_id: i64,
    limit: i64,
) -> QueryResult<Vec<Checkpoint>> {
    use diesel::BoolExpressionMethods as _;
    use ledger_checkpoints::{id, seq};
    ledger_checkpoints::table
        .filter(ledger_checkpoints::instance_id.eq(instance_id))
        .filter(seq.ge(after.0))
        .filter(seq.gt(after.0).or(id.gt(after.1)))
        .filter(id.le(until_id))
        .order((seq.asc(), id.asc()))
        .limit(limit)
        .select(Checkpoint::as_select())
        .load(connection)
}

/// Deletes what an instance's checkpoints say of rows up to `seq`: the next 'pruned' one says it.
///
/// # Errors
/// What the database says.
pub fn forget(connection: &mut DbConnection, instance_id: &str, seq: i64) -> QueryResult<()> {
    let done = ledger_checkpoints::table
        .filter(ledger_checkpoints::instance_id.eq(instance_id))
        .filter(ledger_checkpoints::seq.le(seq))
        .filter(ledger_checkpoints::kind.ne(Mark::Head.name()));
    diesel::delete(done).execute(connection).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(notary: &Notary) -> Checkpoint {
        let (key_id, key) = notary.keys.first().unwrap();
        let at = NaiveDateTime::default();
        let mac = feed(key.clone(), "one", 7, &[3; 32], "head", at).finalize().into_bytes().to_vec();
        Checkpoint {
            id: 1,
            instance_id: "one".to_owned(),
            seq: 7,
            hash: vec![3; 32],
            kind: "head".to_owned(),
            created_at: at,
            mac,
            key_id: key_id.clone(),
        }
    }

    #[test]
    fn a_checkpoint_is_known_by_its_key_and_by_nothing_less() {
        let notary = Notary::new([&b"new"[..], b"old"]);
        let checkpoint = made(&notary);
        assert_eq!(notary.prove(&checkpoint), Proof::Holds);
        assert_eq!(Notary::new([&b"newest"[..], b"new"]).prove(&checkpoint), Proof::Holds);
        assert_eq!(Notary::new([&b"old"[..]]).prove(&checkpoint), Proof::Unknown);
        for changed in [
            Checkpoint { instance_id: "two".to_owned(), ..checkpoint.clone() },
            Checkpoint { seq: 8, ..checkpoint.clone() },
            Checkpoint { hash: vec![4; 32], ..checkpoint.clone() },
            Checkpoint { kind: "pruned".to_owned(), ..checkpoint.clone() },
            Checkpoint { created_at: NaiveDateTime::MAX, ..checkpoint.clone() },
            Checkpoint { mac: vec![0; 32], ..checkpoint.clone() },
            Checkpoint { mac: Vec::new(), ..checkpoint.clone() },
        ] {
            assert_eq!(notary.prove(&changed), Proof::Broken, "{changed:?}");
        }
    }
}
