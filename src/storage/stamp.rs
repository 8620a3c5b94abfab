//! A time as it is bound to a statement. Chrono's own formatting is a tenth of what a row costs on SQLite; this is the same
//! text, digit by digit. Must not know which table it goes to.

use chrono::NaiveDateTime;
use diesel::expression::AsExpression;
use diesel::serialize::{self, Output, ToSql};
use diesel::sql_types::Timestamp;

/// A time in UTC, for years of four digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, AsExpression)]
#[diesel(sql_type = Timestamp)]
pub struct Stamp(pub NaiveDateTime);

impl Stamp {
    /// As Diesel writes a `NaiveDateTime`: `2026-11-22 21:45:40`, with 3 or 6 digits of the second's fraction if it has any.
    #[cfg(any(feature = "sqlite", test))]
    fn text(self) -> String {
        use chrono::{Datelike as _, Timelike as _};
        let (date, time, micros) = (self.0.date(), self.0.time(), self.0.nanosecond() / 1_000);
        let mut text = *b"0000-00-00 00:00:00.000000";
        write(text.get_mut(..4), date.year().unsigned_abs());
        write(text.get_mut(5..7), date.month());
        write(text.get_mut(8..10), date.day());
        write(text.get_mut(11..13), time.hour());
        write(text.get_mut(14..16), time.minute());
        write(text.get_mut(17..19), time.second());
        write(text.get_mut(20..), micros);
        let length = match micros {
            0 => 19,
            micros if micros.is_multiple_of(1_000) => 23,
            _ => 26,
        };
        String::from_utf8(text.get(..length).unwrap_or_default().to_vec()).unwrap_or_default()
    }
}

/// Writes a number over the zeros that stand in its place.
#[cfg(any(feature = "sqlite", test))]
fn write(place: Option<&mut [u8]>, number: u32) {
    let mut left = number;
    for digit in place.unwrap_or_default().iter_mut().rev() {
        *digit += u8::try_from(left % 10).unwrap_or_default();
        left /= 10;
    }
}

#[cfg(feature = "sqlite")]
impl ToSql<Timestamp, diesel::sqlite::Sqlite> for Stamp {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, diesel::sqlite::Sqlite>) -> serialize::Result {
        out.set_value(self.text());
        Ok(serialize::IsNull::No)
    }
}

#[cfg(feature = "postgres")]
impl ToSql<Timestamp, diesel::pg::Pg> for Stamp {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, diesel::pg::Pg>) -> serialize::Result {
        ToSql::<Timestamp, diesel::pg::Pg>::to_sql(&self.0, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_that_of_diesel() {
        for micros in
            [0, 1, 999_999, 1_000_000, 1_700_000_000_120_000, 1_700_000_000_123_456, 951_782_400_000_000]
        {
            let at = chrono::DateTime::from_timestamp_micros(micros).unwrap().naive_utc();
            assert_eq!(Stamp(at).text(), at.format("%F %T%.f").to_string());
        }
    }
}
