//! The bytes of an answer on their way to its client: a large one goes out in parts, each when the one before was taken, and counts as
//! unread until its last. Must not know what they say.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, MessageBody};
use actix_web::web::Bytes;
use actix_web::{HttpResponse, HttpResponseBuilder};

use crate::telemetry::metrics::METRICS;

/// What is not larger goes out at once, uncounted; and so large are the parts.
const PART_BYTES: usize = 64 << 10;

/// Has a response carry these bytes.
pub fn carry(response: &mut HttpResponseBuilder, bytes: Bytes) -> HttpResponse {
    if bytes.len() <= PART_BYTES { response.body(bytes) } else { response.body(Unread::new(bytes)) }
}

/// Bytes of answers that their clients have not taken yet.
pub fn unread_bytes() -> u64 {
    u64::try_from(METRICS.unread.get()).unwrap_or_default()
}

/// A large answer. In one piece, all of it would be copied beside the connection at once, for as long as its client reads.
struct Unread {
    rest: Bytes,
    counted: i64,
}

impl Unread {
    fn new(rest: Bytes) -> Self {
        let counted = i64::try_from(rest.len()).unwrap_or(i64::MAX);
        METRICS.unread.add(counted);
        Self { rest, counted }
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        METRICS.unread.sub(self.counted);
    }
}

impl MessageBody for Unread {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.rest.len() as u64)
    }

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        let part = self.rest.len().min(PART_BYTES);
        Poll::Ready((part > 0).then(|| Ok(self.rest.split_to(part))))
    }
}

#[cfg(test)]
mod tests {
    use actix_web::body::to_bytes;

    use super::*;

    #[actix_rt::test]
    async fn a_large_answer_arrives_whole_and_counts_until_then() {
        let bytes: Vec<u8> = (0..PART_BYTES * 3 + 7).map(|at| at as u8).collect();
        let response = carry(&mut HttpResponse::Ok(), bytes.clone().into());
        assert_eq!(response.body().size(), BodySize::Sized(bytes.len() as u64));
        assert!(unread_bytes() >= bytes.len() as u64);
        assert_eq!(to_bytes(response.into_body()).await.unwrap(), bytes);
    }
}
