//! All error codes, so that no document can lack one.

use waygate_mcp::error::ErrorCode;

/// Every one of them; a new variant fails to compile here until it has its line.
pub fn all() -> impl Iterator<Item = ErrorCode> {
    let next = |code: ErrorCode| match code {
        ErrorCode::ParseError => Some(ErrorCode::InvalidRequest),
        ErrorCode::InvalidRequest => Some(ErrorCode::MethodNotFound),
        ErrorCode::MethodNotFound => Some(ErrorCode::InvalidParams),
        ErrorCode::InvalidParams => Some(ErrorCode::HeaderMismatch),
        ErrorCode::HeaderMismatch => Some(ErrorCode::MissingCapability),
        ErrorCode::MissingCapability => Some(ErrorCode::UnsupportedVersion),
        ErrorCode::UnsupportedVersion => Some(ErrorCode::Unauthenticated),
        ErrorCode::Unauthenticated => Some(ErrorCode::Forbidden),
        ErrorCode::Forbidden => Some(ErrorCode::NotFound),
        ErrorCode::NotFound => Some(ErrorCode::MethodNotAllowed),
        ErrorCode::MethodNotAllowed => Some(ErrorCode::NotAcceptable),
        ErrorCode::NotAcceptable => Some(ErrorCode::BodyTimeout),
        ErrorCode::BodyTimeout => Some(ErrorCode::BodyTooLarge),
        ErrorCode::BodyTooLarge => Some(ErrorCode::UnsupportedMediaType),
        ErrorCode::UnsupportedMediaType => Some(ErrorCode::Unavailable),
        ErrorCode::Unavailable => Some(ErrorCode::DeadlineExceeded),
        ErrorCode::DeadlineExceeded => Some(ErrorCode::Internal),
        ErrorCode::Internal => Some(ErrorCode::UrlElicitationRequired),
        ErrorCode::UrlElicitationRequired => Some(ErrorCode::ResourceNotFound),
        ErrorCode::ResourceNotFound => Some(ErrorCode::InputTimeout),
        ErrorCode::InputTimeout => Some(ErrorCode::RateLimited),
        ErrorCode::RateLimited => None,
    };
    std::iter::successors(Some(ErrorCode::ParseError), move |code| next(*code))
}
