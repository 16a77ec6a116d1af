//! Which pod a process belongs to, by the names that kubelet gives control
//! groups. Pure.

/// Whether `/proc/PID/cgroup` says that the process is of the pod with one of
/// these uids.
///
/// Of each path only the outermost part that names a pod counts: a pod may be
/// able to make groups of its own further inside, with any name.
pub fn is_of(cgroup: &str, uids: &[&str]) -> bool {
    cgroup.lines().filter_map(pod).any(|named| {
        uids.iter()
            .any(|uid| named == *uid || named.replace('_', "-") == uid.replace('_', "-"))
    })
}

/// The uid as it is written in a line `number:controllers:path`.
fn pod(line: &str) -> Option<&str> {
    let path = line.splitn(3, ':').nth(2)?;
    path.split('/').find_map(uid_in)
}

/// The uid in one part of a path: `pod<uid>`, `kubepods-burstable-pod<uid>.slice`,
/// or that with the container behind a colon.
fn uid_in(part: &str) -> Option<&str> {
    let starts = part.match_indices("pod").map(|(at, _)| at);
    let mut starts = starts.filter(|at| *at == 0 || part.as_bytes()[at - 1] == b'-');
    starts.find_map(|at| {
        let rest = &part[at + "pod".len()..];
        let end = rest.find(['.', ':']).unwrap_or(rest.len());
        let uid = &rest[..end];
        is_uid(uid).then_some(uid)
    })
}

/// A uid, with dashes or (where those part slices) underscores, or the hash of a
/// static pod.
fn is_uid(text: &str) -> bool {
    let digits = text.bytes().filter(u8::is_ascii_hexdigit).count();
    let parts = text.bytes().filter(|byte| b"-_".contains(byte)).count();
    digits == 32 && (parts == 0 || parts == 4) && digits + parts == text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "0f3a5b12-9c1d-4e77-8a01-1234567890ab";
    const OTHER: &str = "11111111-2222-3333-4444-555555555555";
    const HASH: &str = "8d6b1f5fa1b24e6d9e0f3c2b1a098765";

    #[test]
    fn every_layout_is_understood() {
        let slice = "0f3a5b12_9c1d_4e77_8a01_1234567890ab";
        let lines = [
            // cgroupfs: v1 with its controllers, and v2.
            format!("11:memory:/kubepods/burstable/pod{UID}/4af1"),
            format!("1:name=systemd:/kubepods/pod{UID}/4af1"),
            format!("0::/kubepods/besteffort/pod{UID}/4af1"),
            // systemd, three classes, by containerd, CRI-O and Docker.
            format!("0::/kubepods.slice/kubepods-pod{slice}.slice/cri-containerd-4af1.scope"),
            format!(
                "4:cpu,cpuacct:/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{slice}.slice/crio-4af1.scope"
            ),
            format!(
                "0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{slice}.slice/docker-4af1.scope"
            ),
            // A kubelet within a container, and with a root of its own.
            format!("0::/docker/77ab/kubelet/kubepods/pod{UID}/4af1"),
            format!(
                "0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{slice}.slice/cri-containerd-4af1.scope"
            ),
            // containerd told of systemd, and its kubelet not.
            format!(
                "0::/system.slice/containerd.service/kubepods-burstable-pod{slice}.slice:cri-containerd:4af1"
            ),
            // Seen from a control group namespace of one's own.
            format!("0::/../../kubepods-burstable-pod{slice}.slice/cri-containerd-4af1.scope"),
            format!("0::/../pod{UID}/4af1"),
        ];
        for line in lines {
            assert!(is_of(&line, &[UID]), "{line}");
            assert!(
                is_of(&format!("9:pids:/\n{line}\n"), &[OTHER, UID]),
                "{line}"
            );
            assert!(!is_of(&line, &[OTHER]), "{line}");
            assert!(!is_of(&line, &[]), "{line}");
        }
        let fixed = format!("0::/kubepods/burstable/pod{HASH}/4af1");
        assert!(is_of(&fixed, &[UID, HASH]));
    }

    #[test]
    fn what_is_not_a_pod_is_none() {
        for line in [
            "",
            "0::/",
            "garbage",
            "0::",
            "0::/system.slice/containerd.service",
            "0::/podruntime.slice/kubelet.service",
            "0::/machine.slice/libpod-4af1.scope",
            "0::/kubepods.slice",
            "0::/kubepods/pod",
            "0::/kubepods/pod-",
            "0::/kubepods/podé",
        ] {
            assert!(!is_of(line, &[UID, HASH, ""]), "{line}");
        }
        // The beginning of a uid is none.
        assert!(!is_of(&format!("0::/kubepods/pod{UID}0/x"), &[UID]));
        assert!(!is_of(
            &format!("0::/kubepods/pod{}/x", &UID[..35]),
            &[&UID[..35]]
        ));
    }

    #[test]
    fn a_pod_cannot_pass_for_another() {
        let inner = format!("0::/kubepods/burstable/pod{OTHER}/4af1/pod{UID}/x");
        assert!(is_of(&inner, &[OTHER]));
        assert!(!is_of(&inner, &[UID]));
    }
}
