//! The shim alone, for Multus, which finds it by its name.

use super::{Mode, Pass, words::Trouble};
use crate::install::conf::Mark;

impl Pass<'_> {
    pub(super) fn standalone(&mut self) -> Result<String, Trouble> {
        let name = self.site.places.conf_name.clone();
        let survey = self.survey(&name)?;
        let primary = survey.primary.as_ref();
        let is_behind = primary.is_some_and(|primary| primary.name < name);
        if self.site.places.is_read && !is_behind {
            return Err(Trouble::Told(format!(
                "a runtime reads {}, and would take {name} for the network of every pod: no other \
                 usable configuration sorts before it; give a folder of Multus (--cni-conf-dir), \
                 or a name that sorts last (--cni-conf-name)",
                self.site.places.conf_dir.display()
            )));
        }
        let wanted = format!("{}\n", self.entry.marked(&Mark::Standalone)?);
        self.put(wanted.as_bytes(), &survey)?;
        self.clear(&survey, Mode::Standalone, None)?;
        let survey = self.survey(&name)?;
        self.is_as_written(survey.own.as_ref().map(|own| own.contents.as_slice()))?;
        Ok(String::new())
    }
}
