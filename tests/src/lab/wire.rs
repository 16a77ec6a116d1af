//! Packets on a wire, as tcpdump writes them to a file.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    thread,
    time::Duration,
};

use super::{command, netns::Netns, process::Process, wait};

/// A running capture.
#[derive(Debug)]
pub struct Wire {
    tcpdump: Process,
    file: PathBuf,
}

impl Wire {
    /// Starts to record what `filter` matches on `link`.
    #[expect(clippy::disallowed_methods, reason = "tcpdump is the observer")]
    pub fn record(netns: &Netns, link: &str, filter: &str, dir: &Path, name: &str) -> Self {
        let file = dir.join(format!("{name}.pcap"));
        let log = dir.join(format!("{name}.tcpdump.log"));
        let mut command = std::process::Command::new("tcpdump");
        command
            .args([
                "-i",
                link,
                "-n",
                "-U",
                "--immediate-mode",
                "-B",
                "8192",
                "-Z",
                "root",
                "-w",
            ])
            .arg(&file)
            .args(filter.split_whitespace())
            .stdin(Stdio::null());
        let mut tcpdump = Process::start(netns, &format!("tcpdump on {link}"), command, &log);
        tcpdump.wait_for("listening on", wait::LONG);
        Self { tcpdump, file }
    }

    /// The packets as raw bytes, after those under way have been written.
    pub fn bytes(&self) -> Vec<u8> {
        self.settle();
        fs::read(&self.file).unwrap_or_default()
    }

    /// How often `text` occurs in packets.
    pub fn count(&self, text: &str) -> usize {
        let bytes = self.bytes();
        bytes
            .windows(text.len())
            .filter(|window| *window == text.as_bytes())
            .count()
    }

    /// Number of packets that match a further filter.
    pub fn packets(&self, filter: &str) -> usize {
        self.lines(filter).len()
    }

    /// A line for each packet that matches a further filter.
    pub fn lines(&self, filter: &str) -> Vec<String> {
        self.settle();
        let output = command::bounded("tcpdump")
            .args(["-n", "-r"])
            .arg(&self.file)
            .args(filter.split_whitespace())
            .stdin(Stdio::null())
            .output()
            .expect("run tcpdump");
        command::stdout("tcpdump -r", &output)
            .lines()
            .map(str::to_owned)
            .collect()
    }

    /// Packets under way are written soon: wait
    /// until the file has stopped growing.
    fn settle(&self) {
        let length = || fs::metadata(&self.file).map_or(0, |file| file.len());
        let mut last = length();
        for _ in 0..20 {
            thread::sleep(Duration::from_millis(150));
            let now = length();
            if now == last {
                break;
            }
            last = now;
        }
    }

    /// Ends the recording.
    pub fn stop(mut self) -> PathBuf {
        self.settle();
        self.tcpdump.stop(wait::LONG);
        self.file.clone()
    }
}
