//! A name server of one name, and a listener that hears one caller.

use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::time::{Duration, Instant};

const A: [u8; 2] = [0, 1];

/// Answers for that name, and knows no other. Where it listens; `None` where it may not. It ends with the process.
pub(crate) fn serve(name: &str, at: Ipv4Addr) -> Option<Ipv4Addr> {
    let (socket, address) = (53..=77).find_map(|last| {
        let address = Ipv4Addr::new(127, 0, 0, last);
        Some((UdpSocket::bind((address, 53)).ok()?, address))
    })?;
    let known: Vec<u8> = name.split('.').flat_map(label).chain([0]).collect();
    std::thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut query) {
            if let Some(answer) = answer(&query[..length], &known, at) {
                // Whoever does not get it asks again.
                let _ = socket.send_to(&answer, from);
            }
        }
    });
    Some(address)
}

fn label(word: &str) -> Vec<u8> {
    [&[u8::try_from(word.len()).unwrap()], word.as_bytes()].concat()
}

/// RFC 1035, section 4: the question back, with one address if it is for the known name.
fn answer(query: &[u8], known: &[u8], at: Ipv4Addr) -> Option<Vec<u8>> {
    let question = query.get(12..)?;
    let end = question.iter().position(|byte| *byte == 0)? + 1;
    let (asked, kind) = (question.get(..end)?, question.get(end..end + 2)?);
    let is_known = asked.eq_ignore_ascii_case(known);
    let has_answer = is_known && kind == A;
    let mut back = query.get(..2)?.to_vec();
    // A response, recursion available; of other names: no such name.
    back.extend([0x81, if is_known { 0x80 } else { 0x83 }, 0, 1, 0, u8::from(has_answer), 0, 0, 0, 0]);
    back.extend(question.get(..end + 4)?);
    if has_answer {
        // The name of byte 12, an address, of the Internet, for a minute, four bytes.
        back.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        back.extend(at.octets());
    }
    Some(back)
}

/// What the first caller says first.
pub(crate) fn first_bytes(listener: &TcpListener, deadline: Instant) -> Option<Vec<u8>> {
    listener.set_nonblocking(true).unwrap();
    while Instant::now() < deadline {
        if let Ok((mut stream, _)) = listener.accept() {
            stream.set_nonblocking(false).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let mut bytes = vec![0; 4096];
            let length = stream.read(&mut bytes).ok()?;
            bytes.truncate(length);
            return Some(bytes);
        }
        // A listener has no deadline.
        std::thread::sleep(Duration::from_millis(20));
    }
    None
}
