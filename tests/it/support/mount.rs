//! Files as kubelet mounts them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Puts a link in place of whatever is there, at once.
pub(crate) fn put_link(target: &Path, at: &Path) {
    let next = at.with_extension("next");
    symlink(target, &next).and_then(|()| fs::rename(&next, at)).expect("is writable");
}

/// A mounted ConfigMap or Secret: every file is a link through `..data`, and swapping that swaps them all at once; the old folder is then
/// removed. (kubernetes, pkg/volume/util/atomic_writer.go)
#[derive(Debug)]
pub(crate) struct Mount {
    folder: PathBuf,
    version: usize,
}

impl Mount {
    pub(crate) fn at(folder: &Path) -> Self {
        fs::create_dir_all(folder).expect("is writable");
        Self { folder: folder.to_owned(), version: 0 }
    }

    pub(crate) fn swap(&mut self, files: &[(String, String)]) {
        let name = |version: usize| format!("..2026_11_22_10_00_{version:02}.{version}");
        let (old, new) = (name(self.version), name(self.version + 1));
        self.version += 1;
        let made = self.folder.join(&new);
        fs::create_dir(&made).expect("is writable");
        for (name, content) in files {
            fs::write(made.join(name), content).expect("is writable");
        }
        let (data, next) = (self.folder.join("..data"), self.folder.join("..data_tmp"));
        symlink(&new, &next).and_then(|()| fs::rename(&next, &data)).expect("is writable");
        for (name, _) in files {
            let link = self.folder.join(name);
            if !link.is_symlink() {
                put_link(Path::new(&format!("..data/{name}")), &link);
            }
        }
        let _ = fs::remove_dir_all(self.folder.join(old));
    }
}
