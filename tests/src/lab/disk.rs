//! A small file system, for what a disk can do to a program.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::wait;

const FILLER: &str = "filler";

/// A file system of its own in a folder, gone when dropped.
#[derive(Debug)]
pub struct Disk(PathBuf);

impl Disk {
    /// Makes the folder, and an empty file system of this size in it.
    pub fn mount(dir: &Path, kib: u32) -> Self {
        fs::create_dir_all(dir).expect("make a folder for the disk");
        let disk = Self(dir.into());
        disk.set(MsFlags::empty(), &format!("size={kib}k"));
        disk
    }

    /// Leaves no byte free.
    pub fn fill(&self) {
        let mut filler = File::create(self.0.join(FILLER)).expect("make a file to fill the disk");
        while filler.write_all(&[0; 4096]).is_ok() {}
    }

    /// Undoes [`Disk::fill`].
    pub fn make_room(&self) {
        fs::remove_file(self.0.join(FILLER)).expect("remove what fills the disk");
    }

    /// As somebody mounts it anew who does not want it changed.
    pub fn read_only(&self, yes: bool) {
        let flag = if yes {
            MsFlags::MS_RDONLY
        } else {
            MsFlags::empty()
        };
        self.set(MsFlags::MS_REMOUNT | flag, "");
    }

    fn set(&self, flags: MsFlags, options: &str) {
        // It is busy for as long as a child of this process has a file of it open that
        // was being written when the child was forked.
        let what = format!("a disk to be mounted on {}", self.0.display());
        wait::value(&what, wait::LONG, || {
            mount(Some("tmpfs"), &self.0, Some("tmpfs"), flags, Some(options))
                .map_err(|error| error.to_string())
        });
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        unmount(&self.0);
    }
}

/// Takes away every file system that is mounted below a folder, also while files
/// of it are open.
pub(crate) fn unmount_below(dir: &Path) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    for place in places.map(Path::new).filter(|place| place.starts_with(dir)) {
        unmount(place);
    }
}

fn unmount(place: &Path) {
    // Somebody else may have been first.
    let _ = umount2(place, MntFlags::MNT_DETACH);
}
