//! The line by examples, and its laws under anything that passes may do.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(1_793_955_600_000 + millis).unwrap()
}

fn who(name: &str) -> Who {
    ("lab".to_owned(), name.to_owned())
}

fn waits(answer: Answer) -> bool {
    matches!(answer, Answer::Wait { .. })
}

#[test]
fn fewer_than_the_bound_wait_for_nobody() {
    let mut line = Line::new(3);
    for name in ["a", "b", "c"] {
        line.expect(&who(name), 50, at(0));
    }
    // The last in the line is the first to ask, at the very edge.
    assert_eq!(line.ask(&who("c"), 50, at(0)), Answer::Go);
    assert_eq!(line.ask(&who("b"), 50, at(0)), Answer::Go);
    assert_eq!(line.ask(&who("a"), 50, at(0)), Answer::Go);
}

#[test]
fn at_one_edge_the_order_is_that_of_the_priorities_whoever_asks_first() {
    let mut line = Line::new(1);
    let all = [("low", 1), ("mid", 50), ("high", 200)];
    for (name, priority) in all {
        line.expect(&who(name), priority, at(0));
    }
    assert!(waits(line.ask(&who("low"), 1, at(0))));
    assert!(waits(line.ask(&who("mid"), 50, at(1))));
    assert_eq!(line.ask(&who("high"), 200, at(2)), Answer::Go);
    assert_eq!(line.give_back(at(30)), [who("mid")]);
    assert!(waits(line.ask(&who("low"), 1, at(31))), "the turn is called out to another");
    assert_eq!(line.ask(&who("mid"), 50, at(32)), Answer::Go);
    assert_eq!(line.give_back(at(60)), [who("low")]);
    assert_eq!(line.ask(&who("low"), 1, at(61)), Answer::Go);
    assert_eq!((line.give_back(at(90)), line.out()), (vec![], 0));
}

#[test]
fn of_one_priority_the_name_decides() {
    let mut line = Line::new(1);
    for name in ["ws-2", "ws-1"] {
        line.expect(&who(name), 50, at(0));
    }
    assert!(waits(line.ask(&who("ws-2"), 50, at(0))));
    assert_eq!(line.ask(&who("ws-1"), 50, at(0)), Answer::Go);
}

#[test]
fn nobody_is_kept_waiting_before_the_edge_of_another() {
    let mut line = Line::new(1);
    line.expect(&who("later"), 255, at(60_000));
    assert_eq!(line.ask(&who("now"), 0, at(59_999)), Answer::Go);
}

#[test]
fn who_is_expected_and_does_not_come_holds_up_nobody_for_longer_than_a_moment() {
    let mut line = Line::new(1);
    line.expect(&who("ghost"), 255, at(0));
    assert!(waits(line.ask(&who("a"), 1, at(0))));
    assert!(waits(line.ask(&who("a"), 1, at(999))));
    assert_eq!(line.ask(&who("a"), 1, at(1000)), Answer::Go);
}

#[test]
fn who_is_called_and_does_not_come_is_passed_over() {
    let mut line = Line::new(1);
    assert_eq!(line.ask(&who("first"), 50, at(0)), Answer::Go);
    assert!(waits(line.ask(&who("ghost"), 50, at(0))));
    assert!(waits(line.ask(&who("z"), 50, at(0))));
    assert_eq!(line.give_back(at(10)), [who("ghost")]);
    assert!(waits(line.ask(&who("z"), 50, at(20))));
    assert_eq!(line.ask(&who("z"), 50, at(1010)), Answer::Go);
}

#[test]
fn who_turns_out_to_make_nothing_makes_room_at_once() {
    let mut line = Line::new(1);
    line.expect(&who("blocked"), 255, at(0));
    assert!(waits(line.ask(&who("a"), 1, at(0))));
    assert_eq!(line.step_aside(&who("blocked"), at(1)), [who("a")]);
    assert_eq!(line.ask(&who("a"), 1, at(2)), Answer::Go);
}

#[test]
fn what_was_expected_of_somebody_is_replaced_and_forgotten() {
    let mut line = Line::new(1);
    line.expect(&who("moved"), 255, at(0));
    line.expect(&who("moved"), 255, at(60_000));
    line.expect(&who("gone"), 255, at(0));
    assert_eq!(line.retain(|who| who.1 != "gone", at(0)), Vec::<Who>::new());
    assert_eq!(line.ask(&who("a"), 1, at(0)), Answer::Go);
}

#[test]
fn the_time_of_waiting_is_counted_from_the_first_question() {
    let mut line = Line::new(1);
    line.ask(&who("first"), 50, at(0));
    line.ask(&who("b"), 50, at(100));
    assert_eq!(line.ask(&who("b"), 50, at(900)), Answer::Wait { since: at(100) });
}

#[test]
fn a_clock_that_is_set_back_keeps_nobody_waiting_for_a_ghost() {
    let mut line = Line::new(1);
    line.expect(&who("ghost"), 255, at(0));
    assert!(waits(line.ask(&who("a"), 1, at(0))));
    assert_eq!(line.ask(&who("a"), 1, at(-300_000)), Answer::Go);
}

/// What passes do, each of an object that is known by a letter.
#[derive(Clone, Debug)]
enum Act {
    Expect(u8, i64),
    Ask(u8),
    GiveBack,
    StepAside(u8),
    Vanish(u8),
    Pass(i64),
}

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (0..12_u8, 0..3000_i64).prop_map(|(who, ahead)| Act::Expect(who, ahead)),
        8 => (0..12_u8).prop_map(Act::Ask),
        5 => Just(Act::GiveBack),
        2 => (0..12_u8).prop_map(Act::StepAside),
        1 => (0..12_u8).prop_map(Act::Vanish),
        2 => (1..1500_i64).prop_map(Act::Pass),
    ]
}

fn name(n: u8) -> Who {
    who(&format!("ws-{n:02}"))
}

/// Three of each priority.
fn priority(n: u8) -> u8 {
    n / 3
}

/// Who stands before whom.
fn place(n: u8) -> (Reverse<u8>, Who) {
    (Reverse(priority(n)), name(n))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_more_than_the_bound_go_in_order_and_in_the_end_everybody_goes(
        bound in 1..4_usize,
        acts in prop::collection::vec(acts(), 1..120),
    ) {
        let mut line = Line::new(bound);
        let (mut now, mut out) = (0, 0_usize);
        // Who waits, as its pass was told; who has been called since, and when.
        let mut waiting: BTreeMap<u8, Option<i64>> = BTreeMap::new();
        let heard = |called: Vec<Who>, waiting: &mut BTreeMap<u8, Option<i64>>, now: i64| {
            for who in called {
                let known = waiting.iter_mut().find(|(n, _)| name(**n) == who);
                let (_, called_at) = known.expect("called without having asked");
                *called_at = Some(now);
            }
        };
        for act in acts {
            match act {
                Act::Expect(n, ahead) => line.expect(&name(n), priority(n), at(now + ahead)),
                Act::Pass(millis) => now += millis,
                Act::Ask(n) => match line.ask(&name(n), priority(n), at(now)) {
                    Answer::Go => {
                        out += 1;
                        prop_assert!(out <= bound, "{out} of {bound}");
                        waiting.remove(&n);
                        // Whoever waits before it, and is not late itself, has a turn left.
                        let late = |called: &Option<i64>| called.is_some_and(|called| now - called >= 1000);
                        let before = waiting.iter().filter(|(w, c)| place(**w) < place(n) && !late(c)).count();
                        prop_assert!(before <= bound - out, "{n} before {before}: {waiting:?}");
                    }
                    Answer::Wait { .. } => { waiting.insert(n, None); }
                },
                Act::GiveBack if out > 0 => {
                    out -= 1;
                    let called = line.give_back(at(now));
                    heard(called, &mut waiting, now);
                }
                Act::GiveBack => {}
                Act::StepAside(n) => {
                    waiting.remove(&n);
                    let called = line.step_aside(&name(n), at(now));
                    heard(called, &mut waiting, now);
                }
                Act::Vanish(n) => {
                    waiting.remove(&n);
                    let called = line.retain(|who| *who != name(n), at(now));
                    heard(called, &mut waiting, now);
                }
            }
            prop_assert_eq!(line.out(), out);
        }
        // All turns come back and nobody new comes: the line empties, each asking when it is called, or after a while.
        now += 10_000;
        while !waiting.is_empty() {
            while out > 0 {
                out -= 1;
                let called = line.give_back(at(now));
                heard(called, &mut waiting, now);
            }
            let before = waiting.len();
            for n in waiting.keys().copied().collect::<Vec<_>>() {
                if line.ask(&name(n), priority(n), at(now)) == Answer::Go {
                    out += 1;
                    waiting.remove(&n);
                }
            }
            prop_assert!(waiting.len() < before || now < 200_000, "stuck: {line:?}");
            now += 1000;
        }
        prop_assert!(line.out() <= bound);
    }
}
