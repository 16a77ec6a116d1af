//! Netlink attributes, written and read. Everything read is checked.
//!
//! Not with `netlink-packet-netfilter`: it has no types for much of what is used
//! here (`fwd`, `tproxy`, `socket`…), its decoder takes time quadratic in the
//! number of set elements, and it indexes into nested attributes unchecked.

const HEADER: usize = 4;
const NESTED: u16 = 0x8000;
const TYPE_MASK: u16 = 0x3fff;

/// Attributes on their way to the kernel. Numbers are big-endian, as all of
/// nfnetlink's are.
#[derive(Clone, Debug, Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    /// Attributes behind a message's header.
    pub(super) fn after(header: &[u8]) -> Self {
        Self(header.to_vec())
    }

    pub(super) fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        self.attribute(kind, |body| body.extend_from_slice(value))
    }

    pub(super) fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        self.attribute(kind, |body| {
            body.extend_from_slice(value.as_bytes());
            body.push(0);
        })
    }

    pub(super) fn number(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub(super) fn nest(&mut self, kind: u16, inside: impl FnOnce(&mut Self)) -> &mut Self {
        self.attribute(kind | NESTED, |body| {
            let mut inner = Self(std::mem::take(body));
            inside(&mut inner);
            *body = inner.0;
        })
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn attribute(&mut self, kind: u16, value: impl FnOnce(&mut Vec<u8>)) -> &mut Self {
        let start = self.0.len();
        self.0.extend([0; 2]);
        self.0.extend(kind.to_ne_bytes());
        value(&mut self.0);
        // Nothing we write comes near 64 KiB; if it did, the kernel would
        // refuse the message for its length.
        let length = u16::try_from(self.0.len() - start).unwrap_or(u16::MAX);
        if let Some(header) = self.0.get_mut(start..start + 2) {
            header.copy_from_slice(&length.to_ne_bytes());
        }
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }
}

/// Something that is not well-formed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Malformed(pub(super) &'static str);

/// Attributes of one level, in their order.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields<'a>(Vec<(u16, &'a [u8])>);

impl<'a> Fields<'a> {
    pub(super) fn read(mut bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Vec::new();
        while bytes.len() >= HEADER {
            let number = |at: usize| {
                let two = bytes.get(at..at + 2)?.try_into().ok()?;
                Some(u16::from_ne_bytes(two))
            };
            let (length, kind) = number(0)
                .zip(number(2))
                .ok_or(Malformed("an attribute is cut short"))?;
            let value = bytes
                .get(HEADER..usize::from(length))
                .ok_or(Malformed("an attribute lies about its length"))?;
            fields.push((kind & TYPE_MASK, value));
            bytes = bytes
                .get(usize::from(length).next_multiple_of(4)..)
                .unwrap_or_default();
        }
        Ok(Self(fields))
    }

    /// Fields nested in the field `kind`, none if it is not there.
    pub(super) fn nested(&self, kind: u16) -> Result<Self, Malformed> {
        self.get(kind).map_or(Ok(Self::default()), Self::read)
    }

    pub(super) fn get(&self, kind: u16) -> Option<&'a [u8]> {
        self.0
            .iter()
            .find_map(|(own, value)| (*own == kind).then_some(*value))
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = (u16, &'a [u8])> {
        self.0.iter().copied()
    }

    /// All values, whatever their kind.
    pub(super) fn values(&self) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().map(|(_, value)| *value)
    }

    pub(super) fn number(&self, kind: u16) -> Option<u32> {
        self.get(kind)?.try_into().ok().map(u32::from_be_bytes)
    }

    pub(super) fn text(&self, kind: u16) -> Option<String> {
        self.get(kind).map(text)
    }

    /// Nothing but these is there.
    pub(super) fn only(&self, kinds: &[u16]) -> bool {
        self.0.iter().all(|(kind, _)| kinds.contains(kind))
    }
}

/// Bytes up to the first zero.
pub(super) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0);
    let text = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}
