//! What steering costs a connection.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Shutdown, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use super::{
    median,
    pods::{FULL, node_with},
    sink::{PLAIN, Sink, pin},
    table::Table,
};
use crate::lab::{Lab, netns::Netns, pod::PodSpec};

const ROUNDS: usize = 9;
const STREAM: Duration = Duration::from_millis(700);
const ECHOES: usize = 3000;

/// Medians of one way.
#[derive(Clone, Copy)]
struct Way {
    gigabits: f64,
    echo_us: f64,
}

/// Measures streams and round trips with 1 and with 110 pods enrolled.
pub fn run(table: &mut Table) {
    let one = with(table, 1);
    let full = with(table, FULL);
    table.row(
        &format!("steered stream with {FULL} pods enrolled against 1"),
        format!("{:.1} Gbit/s", full.gigabits),
        format!(
            "{:.1} Gbit/s: {:.0} %",
            one.gigabits,
            full.gigabits / one.gigabits * 100.0
        ),
        "the same",
    );
}

fn with(table: &mut Table, pods: usize) -> Way {
    let (mut lab, _sink, _run) = node_with(pods);
    lab.add_pod(PodSpec::new("u1", "na", 200, "plain"));
    lab.add_pod(PodSpec::new("u2", "na", 201, "plain"));
    let plain_server = lab.pod("u2").netns.clone();
    let _plain = Sink::start(&plain_server);
    let [steered, unsteered, routed] = measure(&lab);
    let percent = |a: f64, b: f64| a / b * 100.0;
    table.row(
        &format!("one stream, {pods} enrolled: steered to the proxy's namespace"),
        format!("{:.1} Gbit/s", steered.gigabits),
        format!(
            "same proxy unsteered {:.1} ({:.0} %); pod to pod, plain routed {:.1} ({:.0} %)",
            unsteered.gigabits,
            percent(steered.gigabits, unsteered.gigabits),
            routed.gigabits,
            percent(steered.gigabits, routed.gigabits)
        ),
        "≥ 95 %",
    );
    table.row(
        &format!("round trip of 1 byte, {pods} enrolled: steered"),
        format!("{:.1} µs", steered.echo_us),
        format!(
            "same proxy unsteered {:.1} µs ({:.0} %); plain routed {:.1} µs ({:.0} %)",
            unsteered.echo_us,
            percent(steered.echo_us, unsteered.echo_us),
            routed.echo_us,
            percent(steered.echo_us, routed.echo_us)
        ),
        "",
    );
    steered
}

/// Steered; the same proxy reached without steering; plain routed pod to pod.
fn measure(lab: &Lab) -> [Way; 3] {
    let captured = &lab.pod("p1").netns;
    let plain = &lab.pod("u1").netns;
    // Nobody has this address: only steering brings it to an end.
    let nowhere: IpAddr = [198, 51, 100, 7].into();
    let ways: [(&Netns, SocketAddr); 3] = [
        (captured, (nowhere, 80).into()),
        (plain, (lab.pod("za").ip4, PLAIN).into()),
        (plain, (lab.pod("u2").ip4, PLAIN).into()),
    ];
    let mut gigabits: [Vec<f64>; 3] = Default::default();
    let mut echoes: [Vec<f64>; 3] = Default::default();
    for _ in 0..ROUNDS {
        for (index, (netns, to)) in ways.iter().enumerate() {
            gigabits[index].push(netns.enter(|| stream(*to)).expect("stream"));
            echoes[index].push(netns.enter(|| echo(*to)).expect("echo"));
        }
    }
    [0, 1, 2].map(|index| Way {
        gigabits: median(&gigabits[index]),
        echo_us: median(&echoes[index]),
    })
}

/// Gbit/s of one stream, as the other end counted it.
fn stream(to: SocketAddr) -> io::Result<f64> {
    pin();
    let mut stream = connect(to)?;
    let data = vec![b's'; 256 << 10];
    let start = Instant::now();
    while start.elapsed() < STREAM {
        stream.write_all(&data)?;
    }
    stream.shutdown(Shutdown::Write)?;
    let mut total = [0; 8];
    stream.read_exact(&mut total)?;
    #[expect(clippy::cast_precision_loss, reason = "a rate, for people")]
    let bits = u64::from_be_bytes(total) as f64 * 8.0;
    Ok(bits / start.elapsed().as_secs_f64() / 1e9)
}

/// Microseconds of one round trip.
fn echo(to: SocketAddr) -> io::Result<f64> {
    pin();
    let mut stream = connect(to)?;
    stream.write_all(b"e")?;
    let mut byte = [7];
    let start = Instant::now();
    for _ in 0..ECHOES {
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte)?;
    }
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let rounds = ECHOES as f64;
    Ok(start.elapsed().as_secs_f64() * 1e6 / rounds)
}

fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, Duration::from_secs(3))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.set_write_timeout(Some(Duration::from_secs(10)))?;
    Ok(stream)
}
