//! Removes what a killed test run has left.

use std::{fs, path::Path, sync::Once};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::command::{self, Bounded as _};

static ONCE: Once = Once::new();

/// Deletes namespaces of labs whose test process is gone, after ending the
/// processes inside.
pub fn once() {
    ONCE.call_once(|| {
        let Ok(entries) = fs::read_dir("/run/netns") else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if owner(&name).is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
                remove(&name);
            }
        }
    });
}

/// The test process that made the namespace `sl<pid>x<number>-<name>`.
fn owner(name: &str) -> Option<u32> {
    let (lab, _) = name.split_once('-')?;
    let (pid, number) = lab.strip_prefix("sl")?.split_once('x')?;
    u32::from_str_radix(number, 16).ok()?;
    u32::from_str_radix(pid, 16).ok()
}

fn remove(name: &str) {
    let pids = command::bounded("ip")
        .args(["netns", "pids", name])
        .run_quietly();
    let text = pids.map(|output| output.stdout).unwrap_or_default();
    for pid in String::from_utf8_lossy(&text).lines() {
        if let Ok(pid) = pid.trim().parse() {
            // Gone already is as good.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
    command::bounded("ip")
        .args(["netns", "del", name])
        .run_quietly();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_namespaces_of_labs_have_an_owner() {
        assert_eq!(owner("sl1fx0-na"), Some(0x1f));
        assert_eq!(owner("sluice"), None);
        assert_eq!(owner("sl1fx0"), None);
        assert_eq!(owner("slna"), None);
        assert_eq!(owner("cni-1234"), None);
    }
}
