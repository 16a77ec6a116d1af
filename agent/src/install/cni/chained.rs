//! The shim in the primary configuration itself.

use std::path::Path;

use super::{Cause, Mode, Pass, count, may, words, words::Trouble};
use crate::{
    files,
    install::{
        chain,
        conf::{Invalid, Mark},
        survey::{ASIDE, Primary, Survey},
    },
};

impl Pass<'_> {
    /// Our entry last in what the runtime takes.
    pub(super) fn chained(&mut self) -> Result<String, Trouble> {
        let survey = self.survey("")?;
        let Some(primary) = &survey.primary else {
            return Err(Trouble::Told(words::waiting(&self.site.places, &survey)));
        };
        let refused = |why: &str| {
            let name = &primary.name;
            Err(Trouble::Told(format!("{name} cannot be chained to: {why}")))
        };
        if primary.link {
            return refused(
                "it is a link, and what others keep elsewhere is not written to; make it a file, \
                 or use --cni-mode own",
            );
        }
        if let Some(why) = primary.list.refusal() {
            return refused(&why);
        }
        let name = if primary.name.ends_with(".conflist") {
            self.insert(primary, &survey)?;
            primary.name.clone()
        } else {
            self.convert(primary, &survey)?
        };
        self.clear(&survey, Mode::Chained, Some(&name))?;
        let survey = self.survey("")?;
        if let Some(ahead) = survey.ahead() {
            return Err(Trouble::Told(words::before(ahead, &name)));
        }
        let there = survey
            .primary
            .as_ref()
            .filter(|primary| primary.name == name);
        self.is_as_written(there.map(|primary| primary.contents.as_slice()))?;
        Ok(words::odd(&survey, &self.site.places))
    }

    fn insert(&mut self, primary: &Primary, survey: &Survey) -> Result<(), Trouble> {
        let path = self.site.places.conf_dir.join(&primary.name);
        let mark = match primary.list.mark() {
            // It was another file once, and becomes it again.
            Some(mark @ Mark::ChainedTo(before))
                if survey.aside.contains(before) && list_name(before) == primary.name =>
            {
                mark.clone()
            }
            _ => Mark::ChainedTo(primary.name.clone()),
        };
        let text = std::str::from_utf8(&primary.contents);
        let text = text.map_err(|error| Invalid::Json(error.to_string()))?;
        let wanted = chain::chained(text, &self.entry.marked(&mark)?)?.into_bytes();
        if primary.contents != wanted {
            let has_ours = primary.list.mark().is_some();
            let cause = match &self.site.written {
                Some((known, _)) if *known == path && !has_ours => Cause::Repair,
                None if !has_ours => Cause::Install,
                _ => Cause::Update,
            };
            let hint = words::renamed(survey, &primary.name);
            may(self.limit, self.now, cause, &path, &hint)?;
            files::write_over(&path, &primary.contents, &wanted, primary.mode)?;
            count("conf", cause, &path);
        }
        self.site.written = Some((path, wanted));
        Ok(())
    }

    /// A single plugin becomes a list, and is put aside.
    fn convert(&mut self, primary: &Primary, survey: &Survey) -> Result<String, Trouble> {
        let directory = self.site.places.conf_dir.clone();
        let name = list_name(&primary.name);
        let path = directory.join(&name);
        let is_ours = survey.marked.iter().any(|(list, _)| *list == name);
        if !is_ours && path.symlink_metadata().is_ok() {
            return Err(Trouble::Told(format!(
                "{} cannot be chained to: it has to become {name}, which is there already and is \
                 another's; remove one of them",
                primary.name
            )));
        }
        let mark = Mark::ChainedTo(primary.name.clone());
        let wanted = primary.list.with(self.entry, &mark)?;
        let cause = match &self.site.written {
            Some((known, _)) if *known == path => Cause::Repair,
            _ => Cause::Install,
        };
        may(self.limit, self.now, cause, &path, "")?;
        // The old one counts until it is renamed.
        files::write_shared(&path, &wanted, primary.mode)?;
        files::rename(
            &directory.join(&primary.name),
            &directory.join(aside(&primary.name)),
        )?;
        count("conf", cause, &path);
        self.site.written = Some((path, wanted));
        Ok(name)
    }
}

/// What a single plugin's file is called as a list.
fn list_name(name: &str) -> String {
    let path = Path::new(name).with_extension("conflist");
    path.to_string_lossy().into_owned()
}

pub(super) fn aside(name: &str) -> String {
    format!("{name}{ASIDE}")
}
