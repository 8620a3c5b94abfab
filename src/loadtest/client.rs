//! One client: it opens its connection when there is something to ask, asks one thing after another, and gives a server time that takes
//! no connections. Must not know threads.

use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::crew::{Desk, Span};
use super::fault::Fault;
use super::link::Link;
use super::pace::Pacer;

/// After a connection that did not come about, until the next is tried: ever longer.
const PAUSE_FIRST: Duration = Duration::from_millis(10);
const PAUSE_MOST: Duration = Duration::from_secs(1);

/// One of many.
pub struct Client {
    desk: Rc<Desk>,
    place: usize,
    link: Option<Link>,
    pause: Duration,
}

impl Client {
    /// That at this place among all, without a connection yet.
    pub fn new(desk: Rc<Desk>, place: usize) -> Self {
        Self { desk, place, link: None, pause: PAUSE_FIRST }
    }

    /// Asks as soon as there is an answer, or as requests are due, until time is up.
    pub async fn live(mut self, span: Span, pacer: Option<Rc<Pacer>>) {
        let desk = Rc::clone(&self.desk);
        while Instant::now() < span.until && !desk.ending.is_cancelled() {
            let is_connected = match &pacer {
                None => self.ask_at_once().await,
                Some(pacer) => {
                    // Before the connection: one that waits for its turn unused would be closed by the server.
                    let Some(due) = pacer.next(&desk.ending).await else { break };
                    due.lag.iter().for_each(|lag| desk.tally.lagged(*lag));
                    self.ask(due.at).await
                }
            };
            if is_connected {
                self.pause = PAUSE_FIRST;
            } else {
                desk.sleep_until(span.until.min(Instant::now() + self.pause)).await;
                self.pause = (self.pause * 2).min(PAUSE_MOST);
            }
        }
        if let Some(link) = self.link {
            let session = link.session().map(str::to_owned);
            if link.close(&desk.plan).await {
                desk.sessions.ended(session.as_deref(), self.place);
            }
        }
    }

    /// One request that is due when there is a connection for it; false when there is none.
    async fn ask_at_once(&mut self) -> bool {
        match self.ready(self.deadline()).await {
            Ok(_link) => self.ask(Instant::now()).await,
            Err(fault) => {
                self.desk.tally.failed(&fault);
                false
            }
        }
    }

    /// One request; false when there is no connection for it.
    async fn ask(&mut self, due: Instant) -> bool {
        let desk = Rc::clone(&self.desk);
        let kind = desk.turns.borrow_mut().take();
        let until = self.deadline();
        desk.gauges.in_flight.fetch_add(1, Ordering::Relaxed);
        let (is_connected, answered) = match self.ready(until).await {
            Ok(link) => (true, link.call(kind, &desk.plan, until).await),
            Err(fault) => (false, Err(fault)),
        };
        desk.gauges.in_flight.fetch_sub(1, Ordering::Relaxed);
        match answered {
            Ok(answered) => {
                desk.tally.answered(kind, due.elapsed(), answered.bytes, answered.judged.events);
            }
            Err(fault) => {
                desk.tally.failed(&fault);
                // A session that is gone is opened anew.
                if let Some(gone) =
                    self.link.take_if(|link| link.session().is_some() && fault.status == Some(404))
                {
                    desk.sessions.ended(gone.session(), self.place);
                }
            }
        }
        is_connected
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.desk.plan.timeout
    }

    /// Its connection, opened where there is none.
    async fn ready(&mut self, until: Instant) -> Result<&mut Link, Fault> {
        let plan = &self.desk.plan;
        let link = match self.link.take() {
            Some(link) => link,
            None => {
                let link = Link::open(plan, self.place, &self.desk.bodies, until).await?;
                self.desk.sessions.opened(link.session(), self.place);
                link
            }
        };
        let link = self.link.insert(link);
        link.connect(plan, until).await?;
        Ok(link)
    }
}
