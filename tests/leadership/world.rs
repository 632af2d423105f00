//! Candidates, their clocks, a network that delays and loses, and one Lease on a server.

use std::time::Duration;

use fivespot::leadership::candidate::{Bid, Candidate, Moment, Record, Terms, Wish};
use stateright::{Model, Property};

/// Nobody may begin to write while another may write, or may have a write out.
pub(crate) const ONE_WRITER: &str = "one writer at a time";
pub(crate) const IN_THE_END: &str = "when faults end, somebody leads within two durations";
const TAKEN_OVER: &str = "a Lease is taken over from somebody who died";
const HANDED_OVER: &str = "a Lease is taken over from somebody who left";
const REGAINED: &str = "a renewal whose answer was lost is made good";

const TERMS: Terms = Terms {
    duration: Duration::from_secs(3),
    renew_deadline: Duration::from_secs(2),
    retry_period: Duration::from_secs(1),
};
/// Half way between a leader's end and anybody's beginning: then it waits for no answer any more.
const GIVEN_UP: Duration = Duration::from_millis(2500);

/// How much is explored.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    /// For each candidate, how far its clock goes in a tick.
    pub speeds: Vec<Duration>,
    /// Ticks until the horizon.
    pub ticks: u8,
    /// Messages lost, answers not waited for, deaths and departures, all together.
    pub faults: u8,
}

/// The election within bounds.
pub(crate) struct Election {
    bounds: Bounds,
}

impl Election {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self { bounds }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    ticks: u8,
    faults: u8,
    /// What is stored, and how often it has been written.
    lease: Option<Record>,
    writes: u8,
    nodes: Vec<Node>,
    died: bool,
    left: bool,
    unanswered: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Node {
    candidate: Candidate,
    lives: u8,
    clock: Moment,
    /// What was sent and may still arrive.
    out: Vec<Bid>,
    /// Whether the last of them is waited for.
    is_waiting: bool,
    answer: Option<Answer>,
    /// Its watch has told of what is stored.
    is_told: bool,
    /// Until when it may have a write of its work out.
    busy_until: Moment,
    has_left: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Answer {
    Accepted(Record),
    Refused,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    Tick,
    Read(usize),
    Send(usize),
    Arrive(usize, usize),
    Hear(usize),
    Watch(usize),
    Lose(usize, usize),
    GiveUp(usize),
    Die(usize),
    Leave(usize),
}

fn name(node: usize, lives: u8) -> String {
    format!("{node}.{lives}")
}

impl Node {
    fn fresh(node: usize, lives: u8, clock: Moment) -> Self {
        Self {
            candidate: Candidate::new(name(node, lives), TERMS),
            lives,
            clock,
            out: Vec::new(),
            is_waiting: false,
            answer: None,
            is_told: false,
            busy_until: Moment::default(),
            has_left: false,
        }
    }

    fn leads(&self) -> bool {
        self.candidate.proof(self.clock).is_some()
    }

    fn is_busy(&self) -> bool {
        self.leads() || self.clock < self.busy_until
    }

    fn note(&mut self) {
        if let Some(sent) = self.candidate.proof(self.clock) {
            self.busy_until = sent.after(GIVEN_UP);
        }
    }
}

impl State {
    fn is_led(&self) -> bool {
        self.nodes.iter().any(Node::leads)
    }

    /// The server takes a write if it is based on what is stored.
    fn store(&mut self, me: String, bid: &Bid) -> Answer {
        if self.lease.as_ref().map(|lease| &lease.version) != bid.base.as_ref() {
            return Answer::Refused;
        }
        self.writes += 1;
        let record = Record {
            holder: (!bid.is_release).then_some(me),
            duration: if bid.is_release { Duration::from_secs(1) } else { TERMS.duration },
            version: self.writes.to_string(),
        };
        self.lease = Some(record.clone());
        self.nodes.iter_mut().for_each(|node| node.is_told = false);
        Answer::Accepted(record)
    }

    /// What may happen to a node without any fault.
    fn lawful(&self, index: usize, actions: &mut Vec<Action>) {
        let node = &self.nodes[index];
        if node.answer.is_some() {
            actions.push(Action::Hear(index));
        } else if !node.is_waiting {
            match node.candidate.next(node.clock) {
                Wish::Read => actions.push(Action::Read(index)),
                Wish::Write(_) => actions.push(Action::Send(index)),
                Wish::Wait(_) | Wish::Rest => {}
            }
        }
        actions.extend((0..node.out.len()).map(|k| Action::Arrive(index, k)));
        // A watch is late by any time and may skip, but keeps the order: what it tells last is what counts.
        if !node.is_told && !node.is_waiting {
            actions.push(Action::Watch(index));
        }
    }

    fn unlawful(&self, index: usize, actions: &mut Vec<Action>) {
        let node = &self.nodes[index];
        actions.extend((0..node.out.len()).map(|k| Action::Lose(index, k)));
        if node.is_waiting {
            actions.push(Action::GiveUp(index));
        }
        if !node.has_left {
            actions.push(Action::Die(index));
            if !node.is_waiting {
                actions.push(Action::Leave(index));
            }
        }
    }

    fn tick(&mut self, speeds: &[Duration]) {
        for (node, speed) in self.nodes.iter_mut().zip(speeds) {
            node.clock = node.clock.after(*speed);
        }
    }

    fn act(&mut self, action: &Action) {
        match *action {
            Action::Tick => {}
            Action::Read(i) => {
                let lease = self.lease.clone();
                let node = &mut self.nodes[i];
                node.candidate.read(lease, node.clock);
            }
            Action::Send(i) => {
                let node = &mut self.nodes[i];
                if let Wish::Write(bid) = node.candidate.next(node.clock) {
                    node.candidate.sending(node.clock);
                    node.out.push(bid);
                    node.is_waiting = true;
                }
            }
            Action::Arrive(i, k) => self.arrive(i, k),
            Action::Hear(i) => {
                let node = &mut self.nodes[i];
                node.is_waiting = false;
                match node.answer.take() {
                    Some(Answer::Accepted(record)) => node.candidate.accepted(record, node.clock),
                    Some(Answer::Refused) => node.candidate.refused(),
                    None => {}
                }
            }
            Action::Watch(i) => {
                let lease = self.lease.clone();
                let node = &mut self.nodes[i];
                node.candidate.told(lease, node.clock);
                node.is_told = true;
            }
            Action::Lose(i, k) => drop(self.nodes[i].out.remove(k)),
            Action::GiveUp(i) => {
                let node = &mut self.nodes[i];
                self.unanswered |= node.answer.is_some();
                (node.is_waiting, node.answer) = (false, None);
                node.candidate.failed(node.clock);
            }
            Action::Die(i) => {
                self.died |= self.nodes[i].leads();
                let Node { lives, clock, out, .. } = self.nodes[i].clone();
                // What it sent may still arrive, in the name it had; nobody waits for it.
                self.nodes[i] = Node { out: Vec::new(), ..Node::fresh(i, lives + 1, clock) };
                for bid in out {
                    self.store(name(i, lives), &bid);
                }
            }
            Action::Leave(i) => {
                let node = &mut self.nodes[i];
                self.left |= node.leads();
                node.candidate.leave();
                (node.has_left, node.busy_until) = (true, Moment::default());
            }
        }
        self.nodes.iter_mut().for_each(Node::note);
    }

    /// The last one sent is the one that is waited for.
    fn arrive(&mut self, i: usize, k: usize) {
        let bid = self.nodes[i].out.remove(k);
        let was_last = k == self.nodes[i].out.len();
        let answer = self.store(name(i, self.nodes[i].lives), &bid);
        let node = &mut self.nodes[i];
        if was_last && node.is_waiting && node.answer.is_none() {
            node.answer = Some(answer);
        }
    }

    /// Whether somebody leads before long if everything goes well from here on.
    fn somebody_leads_soon(&self, speeds: &[Duration]) -> bool {
        let mut state = self.clone();
        if state.nodes.iter().all(|node| node.has_left) {
            return true;
        }
        for _ in 0..=2 * TERMS.duration.as_secs() {
            let mut steps = 0;
            loop {
                let mut actions = Vec::new();
                (0..state.nodes.len()).for_each(|i| state.lawful(i, &mut actions));
                // A write that was lost is given up in the end.
                let lost = |node: &Node| node.is_waiting && node.out.is_empty() && node.answer.is_none();
                actions.extend((0..state.nodes.len()).filter(|i| lost(&state.nodes[*i])).map(Action::GiveUp));
                let Some(action) = actions.first() else { break };
                state.act(action);
                steps += 1;
                if steps > 100 {
                    return false;
                }
            }
            if state.is_led() {
                return true;
            }
            state.tick(speeds);
        }
        false
    }
}

impl Model for Election {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let nodes = (0..self.bounds.speeds.len()).map(|i| Node::fresh(i, 0, Moment::default())).collect();
        vec![State {
            ticks: 0,
            faults: 0,
            lease: None,
            writes: 0,
            nodes,
            died: false,
            left: false,
            unanswered: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.ticks < self.bounds.ticks {
            actions.push(Action::Tick);
        }
        for index in 0..state.nodes.len() {
            state.lawful(index, actions);
            if state.faults < self.bounds.faults {
                state.unlawful(index, actions);
            }
        }
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut state = before.clone();
        match action {
            Action::Tick => {
                state.ticks += 1;
                state.tick(&self.bounds.speeds);
            }
            Action::Lose(..) | Action::GiveUp(_) | Action::Die(_) | Action::Leave(_) => state.faults += 1,
            _ => {}
        }
        state.act(&action);
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONE_WRITER, |_, state: &State| {
                let leader = state.nodes.iter().position(Node::leads);
                leader.is_none_or(|leader| {
                    state.nodes.iter().enumerate().all(|(i, node)| i == leader || !node.is_busy())
                })
            }),
            Property::always(IN_THE_END, |model: &Self, state: &State| {
                // From the horizon on; to play it out from every state would take hours.
                state.ticks < model.bounds.ticks || state.somebody_leads_soon(&model.bounds.speeds)
            }),
            Property::sometimes(TAKEN_OVER, |_, state: &State| state.died && state.is_led()),
            Property::sometimes(HANDED_OVER, |_, state: &State| state.left && state.is_led()),
            Property::sometimes(REGAINED, |_, state: &State| state.unanswered && state.is_led()),
        ]
    }
}
