//! The agent's loop: what is seen, what the rules say, what the Node says, and what follows from it.

use std::sync::Arc;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;

use crate::agent::book::{Book, Change, Reading};
use crate::agent::lease::Said;
use crate::agent::measure::{RuleFaults, Stages};
use crate::agent::rules::{Match, POLL_INTERVAL, Rules};
use crate::agent::session::{News, Request, Session};
use crate::agent::wall_clock;
use crate::detector::{Detector, Event, Sighting};

/// All that comes in and goes out.
pub(super) struct Eyes {
    pub(super) node: String,
    pub(super) detector: Detector<Rules>,
    pub(super) book: Book,
    pub(super) session: Session,
    /// Of the rules.
    pub(super) texts: UnboundedReceiver<Reading>,
    /// Of the Node.
    pub(super) news: UnboundedReceiver<News>,
    pub(super) want: watch::Sender<Option<Request>>,
    pub(super) say: watch::Sender<Said>,
    pub(super) stages: Stages,
    pub(super) faults: RuleFaults,
}

impl Eyes {
    /// Ends when the detectors do.
    pub(super) async fn watch(mut self) {
        loop {
            tokio::select! {
                event = self.detector.next() => match event {
                    Some(event) => self.event(event),
                    None => return,
                },
                Some(reading) = self.texts.recv() => self.rules(reading),
                Some(news) = self.news.recv() => self.heard(&news),
            }
            self.publish();
        }
    }

    fn heard(&mut self, news: &News) {
        match news {
            News::Stands(request) => self.session.stands(request),
            News::Seen(sight) => {
                if self.session.sighted(sight) {
                    tracing::info!("the request was answered; what still runs asks anew");
                    self.detector.look_again();
                }
            }
        }
    }

    fn event(&mut self, event: Event<Match>) {
        match event {
            Event::Found(sighting) => self.found(&sighting),
            Event::Health(health) => {
                let source = health.source.map_or("none", crate::detector::Source::word);
                let fallback = health.fallback.map(crate::detector::FallbackReason::word);
                tracing::info!(detector = source, fallback, blind = health.blind, "how programs are seen");
            }
            Event::Looked => {}
        }
    }

    fn found(&mut self, sighting: &Sighting<Match>) {
        let Sighting { pid, found, name, owner, delay, .. } = sighting;
        // The command line may hold a password; who wants to see it asks for it.
        tracing::debug!(pid, command_line = sighting.command_line, "what was found");
        if let Some(delay) = delay {
            self.stages.detected(*delay);
        }
        let micros = delay.map(|delay| u64::try_from(delay.as_micros()).unwrap_or(u64::MAX));
        self.session.seen(|| {
            let source = sighting.source.word();
            tracing::info!(pid, name, owner, rule = %found, source, micros, "the owner's program runs");
            Request::new(wall_clock(), sighting)
        });
    }

    fn rules(&mut self, reading: Reading) {
        match self.book.hear(&self.node, reading) {
            Change::None => {}
            // The watch has logged it.
            Change::Unreadable => self.faults.unreadable(),
            Change::Fault => {
                self.faults.read(self.book.flaws());
                tracing::warn!(fault = self.book.word(), "the rules of the ConfigMap are at fault");
            }
            Change::InForce => {
                let rules = self.book.in_force().map(Arc::clone);
                tracing::info!(rules = self.book.word(), looking = rules.is_some(), "rules in force");
                if rules.is_none() {
                    self.session.idle();
                }
                let interval = rules.as_ref().map_or(POLL_INTERVAL, |rules| rules.poll_interval());
                self.detector.look_for(rules, interval);
            }
        }
    }

    fn publish(&self) {
        let wanted = self.session.wanted();
        self.want.send_if_modified(|now| {
            let is_new = now.as_ref() != wanted;
            if is_new {
                *now = wanted.cloned();
            }
            is_new
        });
        let said = Said::new(&self.detector.health(), &self.book);
        self.say.send_if_modified(|now| {
            let is_new = *now != said;
            if is_new {
                *now = said;
            }
            is_new
        });
    }
}
