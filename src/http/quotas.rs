//! How much is let through: each request is charged here, to whoever has a limit on it, and each call gets its places.
//!
//! The server's own room is looked at first, before anything is read. After that the narrowest limit comes first: whoever
//! has used up their own takes nothing from what they share with others. A tool's limits are asked by the executor, which
//! alone knows when a call begins. Must not know how limits are counted.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use actix_web::HttpRequest;

use super::door::Frame;
use super::{answer, caller};
use crate::access::Caller;
use crate::access::limits::{Addresses, Allowance, Excess, LIMIT, Of, Places, Running, Steady};
use crate::actors::executor::limited::{self, Refused};
use crate::catalog::{Snapshot, ViewName};
use crate::config::{Limits, Quota};
use crate::error::{ErrorCode, Fault};
use crate::protocol::Method;
use crate::protocol::modern::Params;
use crate::telemetry::metrics::METRICS;
use crate::telemetry::traces::Span;

/// Between two lines in the log that say that calls are refused since there are too many.
const SAID_EVERY_SECONDS: u64 = 10;

/// What its refusals are called when answers are not read.
const ANSWERS: &str = "answers";
/// When it is worth coming back then.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The limits that are not of a key, a bundle or a tool.
pub struct Quotas {
    server: Option<Arc<Allowance>>,
    addresses: Option<Addresses>,
    answers_max_bytes: u64,
    began: Instant,
    /// When it was said last that there is too much to do, in seconds since then.
    said: AtomicU64,
}

/// Who sends a request, and what of the catalog it is about.
#[derive(Clone, Copy)]
pub struct Payer<'a> {
    /// Who.
    pub caller: &'a Caller,
    /// Where they come from, if that matters.
    pub from: Option<IpAddr>,
    /// The view.
    pub view: &'a ViewName,
    /// The request.
    pub request_id: &'a Arc<str>,
    /// What logs and history call their session, if they have one.
    pub session: Option<&'a Arc<str>>,
    /// The request's place in its trace, if it has one.
    pub span: Option<&'a Span>,
    /// Whether nobody is charged.
    pub is_free: bool,
}

impl Quotas {
    /// As the settings say.
    pub fn new(limits: &Limits) -> Self {
        Self {
            server: Allowance::new(Of::Server, "all callers", limits.of_all(), None),
            addresses: Addresses::new(limits.of_one_address(), Steady),
            answers_max_bytes: limits.answers_max_bytes,
            began: Instant::now(),
            said: AtomicU64::new(0),
        }
    }

    /// The limits of all callers together.
    pub fn of_all(&self) -> Option<&Arc<Allowance>> {
        self.server.as_ref()
    }

    /// How many addresses are remembered.
    pub fn addresses(&self) -> usize {
        self.addresses.as_ref().map_or(0, Addresses::count)
    }

    /// Where a request comes from, if limits ask for that.
    pub fn origin(&self, request: &HttpRequest, frame: &Frame, caller: &Caller) -> Option<IpAddr> {
        let asks = self.addresses.is_some() && caller.is_anonymous();
        if asks { caller::address(request, frame) } else { None }
    }

    /// Looks whether one more call has a place here.
    ///
    /// # Errors
    /// 503 while there is none.
    pub fn look(&self) -> Result<(), Fault> {
        self.has_place().map_err(|excess| self.refuse(excess))?;
        self.are_read().inspect_err(|_| {
            METRICS.limited.with_label_values(&[Of::Server.name(), ANSWERS]).inc();
            self.say("answers wait for their clients with as many bytes as limits.answers_max_bytes lets; who reads so slowly?");
        })
    }

    /// The same, and neither counted nor said.
    ///
    /// # Errors
    /// There is none.
    pub fn has_room(&self) -> Result<(), Fault> {
        self.has_place().map_err(Fault::from)?;
        self.are_read()
    }

    fn has_place(&self) -> Result<(), Excess> {
        self.server.as_ref().map_or(Ok(()), |server| server.look())
    }

    /// Looks whether clients take their answers: what they leave waits in memory, long after its call.
    fn are_read(&self) -> Result<(), Fault> {
        if answer::unread_bytes() <= self.answers_max_bytes {
            return Ok(());
        }
        Err(Fault::new(
            ErrorCode::Unavailable,
            "answers that their clients have not read yet take all the memory that they may",
            "retry after a moment; if it lasts, the operator finds more under limits.answers_max_bytes",
        )
        .with(LIMIT, ANSWERS)
        .retry_after(AGAIN_AFTER))
    }

    /// Charges one request to an address that nobody is known by.
    ///
    /// # Errors
    /// 429 when it has none left.
    pub fn charge_stranger(&self, from: Option<IpAddr>) -> Result<(), Fault> {
        let Some(addresses) = &self.addresses else { return Ok(()) };
        addresses.spend(from).map_err(limited::refuse)
    }

    fn refuse(&self, excess: Excess) -> Fault {
        if excess.is_overload() {
            self.say("as many run as limits.calls_max lets; see what takes so long under /plugins");
        }
        limited::refuse(excess)
    }

    /// Says now and then why there is too much to do.
    fn say(&self, why: &str) {
        let now = self.began.elapsed().as_secs() + SAID_EVERY_SECONDS;
        let said = self.said.load(Ordering::Relaxed);
        let is_first = now >= said + SAID_EVERY_SECONDS
            && self.said.compare_exchange(said, now, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if is_first {
            log::warn!("calls are refused with 503, since {why}");
        }
    }

    /// Who is charged for a request, the narrowest first: its key or address, its bundle, the server.
    pub fn owners<'a>(&'a self, payer: &Payer<'a>, bundle: Option<&'a Allowance>) -> [Option<Owner<'a>>; 3] {
        let caller = match (&payer.caller.allowance, &self.addresses) {
            (Some(key), _) => Some(Owner::Known(key)),
            (None, Some(addresses)) if payer.caller.is_anonymous() => {
                Some(Owner::Stranger(addresses, payer.from))
            }
            _ => None,
        };
        [caller, bundle.map(Owner::Known), self.server.as_deref().map(Owner::Known)]
    }

    fn spend(&self, payer: &Payer<'_>, bundle: Option<&Allowance>) -> Result<(), Excess> {
        self.owners(payer, bundle).into_iter().flatten().try_for_each(Owner::spend)
    }

    /// Whether a call would be let through now, in the order in which it would be charged; nobody is.
    ///
    /// # Errors
    /// The limit by which it would be refused.
    pub fn foresee(&self, payer: &Payer<'_>, bundle: Option<&Allowance>) -> Result<(), Excess> {
        let owners = || self.owners(payer, bundle).into_iter().flatten();
        owners().try_for_each(Owner::could_spend)?;
        owners().try_for_each(Owner::look)
    }

    fn begin(&self, payer: &Payer<'_>, bundle: Option<&Allowance>) -> Result<Places, Excess> {
        let [caller, bundle, server] = self.owners(payer, bundle);
        let place = |owner: Option<Owner<'_>>| owner.map_or(Ok(None), Owner::begin);
        Ok(Places { caller: place(caller)?, bundle: place(bundle)?, server: place(server)? })
    }
}

/// Somebody who is charged.
#[derive(Clone, Copy)]
pub enum Owner<'a> {
    /// A key, a bundle, the server.
    Known(&'a Allowance),
    /// Whoever comes from this address.
    Stranger(&'a Addresses, Option<IpAddr>),
}

impl Owner<'_> {
    fn spend(self) -> Result<(), Excess> {
        match self {
            Self::Known(allowance) => allowance.spend(),
            Self::Stranger(addresses, from) => addresses.spend(from),
        }
    }

    fn begin(self) -> Result<Option<Running>, Excess> {
        match self {
            Self::Known(allowance) => allowance.begin(),
            Self::Stranger(addresses, from) => addresses.begin(from),
        }
    }

    fn could_spend(self) -> Result<(), Excess> {
        match self {
            Self::Known(allowance) => allowance.could_spend(),
            Self::Stranger(addresses, from) => addresses.could_spend(from),
        }
    }

    fn look(self) -> Result<(), Excess> {
        match self {
            Self::Known(allowance) => allowance.look(),
            Self::Stranger(addresses, from) => addresses.look(from),
        }
    }

    /// What kind of owner it is, who, and what it may use up.
    pub fn told(self) -> (Of, String, Quota) {
        match self {
            Self::Known(allowance) => (allowance.of(), allowance.whose().to_owned(), allowance.quota()),
            Self::Stranger(addresses, from) => {
                let whose = from.map_or_else(|| "an unknown address".to_owned(), |from| from.to_string());
                (Of::Address, whose, addresses.quota())
            }
        }
    }
}

/// Charges a request that is no call, or that nobody can read.
///
/// # Errors
/// 429 when a limit was reached.
pub fn charge(frame: &Frame, payer: &Payer<'_>) -> Result<(), Fault> {
    if payer.is_free {
        return Ok(());
    }
    let bundle = bundle(frame, payer.view);
    frame.quotas.spend(payer, bundle.as_deref()).map_err(|excess| frame.quotas.refuse(excess))
}

/// Charges a request, and takes its places if it is a call; one that is refused stands in the history.
///
/// # Errors
/// 429 when a limit was reached, 503 when the server has too much to do.
pub fn enter(frame: &Frame, payer: &Payer<'_>, method: &str, params: &Params) -> Result<Places, Fault> {
    if payer.is_free {
        return Ok(Places::default());
    }
    let method = Method::parse(method).filter(|method| is_call(*method));
    let bundle = bundle(frame, payer.view);
    let entered = frame.quotas.spend(payer, bundle.as_deref()).and_then(|()| match method {
        Some(_) => frame.quotas.begin(payer, bundle.as_deref()),
        None => Ok(Places::default()),
    });
    entered.map_err(|excess| {
        let detail = excess.detail();
        let fault = frame.quotas.refuse(excess);
        if let Some(method) = method {
            let catalog = frame.house.shelf.view(payer.view);
            let target = catalog.and_then(|catalog| target(&catalog, method, params));
            let Payer { caller, session, request_id, span, .. } = *payer;
            let said = params.trace();
            let trace_id = span.and_then(Span::trace_id).or(said.id()).map(Arc::from);
            let code = fault.code;
            let refused = Refused { caller, method, target, session, request_id, trace_id, detail, code };
            limited::record(&frame.house.bench, refused);
        }
        fault
    })
}

/// The limits of a bundle; what is no bundle has none, and nothing is looked up for it.
pub fn bundle(frame: &Frame, view: &ViewName) -> Option<Arc<Allowance>> {
    view.name()?;
    frame.house.shelf.view(view)?.allowance().cloned()
}

const fn is_call(method: Method) -> bool {
    match method {
        Method::ToolsCall | Method::PromptsGet | Method::ResourcesRead | Method::Complete => true,
        Method::Discover
        | Method::ToolsList
        | Method::PromptsList
        | Method::ResourcesList
        | Method::TemplatesList
        | Method::Listen => false,
    }
}

/// What a call is of, if that is there: its plugin, and the name that history gives it.
fn target(catalog: &Snapshot, method: Method, params: &Params) -> Option<(Arc<str>, Arc<str>)> {
    let name = params.target(method)?;
    match method {
        Method::ToolsCall => {
            let tool = catalog.tool(&name)?;
            Some((Arc::clone(&tool.seat.name), Arc::clone(&tool.canonical)))
        }
        Method::PromptsGet => {
            let prompt = catalog.prompt(&name)?;
            Some((Arc::clone(&prompt.seat.name), Arc::clone(&prompt.canonical)))
        }
        Method::ResourcesRead => Some((Arc::clone(&catalog.resource(&name)?.seat.name), name.into())),
        _ => None,
    }
}
