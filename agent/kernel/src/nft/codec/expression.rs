//! Expressions: [`write`] writes what [`read()`] reads.
//!
//! Attributes go by their numbers in `NFTA_<NAME>_*`: those of one expression are
//! counted from 1, in the order in which nf_tables.h has them.

use super::{
    super::{
        attributes::Writer,
        model::{Base, Expression, Verdict},
    },
    data, rule,
};

mod read;

pub(super) use read::read;

const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;
const VERDICT_REGISTER: u32 = 0;
const CT_STATUS: u32 = 2;
const SOURCE_NAT: u32 = 0;
const REJECT_TCP_RESET: u32 = 1;
/// Set by the kernel itself for a translation to an address.
const NAT_ADDRESS: u32 = 1;
/// `NFT_PAYLOAD_CSUM_INET`, and where TCP has its checksum.
const CHECKSUM_INTERNET: u32 = 1;
const TCP_CHECKSUM: u32 = 16;

/// Writes name and attributes of an expression.
pub(super) fn write(writer: &mut Writer, expression: &Expression) {
    writer.text(rule::EXPRESSION_NAME, name(expression));
    if let Expression::Other { attributes, .. } = expression {
        writer.bytes(rule::EXPRESSION_DATA | 0x8000, attributes);
        return;
    }
    writer.nest(rule::EXPRESSION_DATA, |writer| match expression {
        Expression::Load { .. }
        | Expression::Verdict(_)
        | Expression::Compare { .. }
        | Expression::Range { .. }
        | Expression::Bitwise { .. } => values(writer, expression),
        Expression::Forward { .. }
        | Expression::Duplicate { .. }
        | Expression::SetTransport { .. }
        | Expression::Tproxy { .. }
        | Expression::SourceNat { .. }
        | Expression::RejectWithReset => statement(writer, expression),
        _ => load(writer, expression),
    });
}

fn name(expression: &Expression) -> &str {
    match expression {
        Expression::Meta { .. } | Expression::SetMeta { .. } => "meta",
        Expression::Payload { .. } | Expression::SetTransport { .. } => "payload",
        Expression::Socket { .. } => "socket",
        Expression::CtStatus { .. } => "ct",
        Expression::Compare { .. } => "cmp",
        Expression::Range { .. } => "range",
        Expression::Bitwise { .. } => "bitwise",
        Expression::Lookup { .. } => "lookup",
        Expression::Load { .. } | Expression::Verdict(_) => "immediate",
        Expression::Forward { .. } => "fwd",
        Expression::Duplicate { .. } => "dup",
        Expression::Tproxy { .. } => "tproxy",
        Expression::SourceNat { .. } => "nat",
        Expression::RejectWithReset => "reject",
        Expression::Other { name, .. } => name,
    }
}

fn load(writer: &mut Writer, expression: &Expression) {
    match expression {
        Expression::Meta { key, to } => {
            writer.number(2, (*key).into()).number(1, to.0);
        }
        Expression::SetMeta { key, from } => {
            writer.number(2, (*key).into()).number(3, from.0);
        }
        Expression::Payload {
            base,
            offset,
            length,
            to,
        } => {
            writer
                .number(1, to.0)
                .number(2, (*base).into())
                .number(3, *offset)
                .number(4, *length);
        }
        Expression::Socket { key, to } => {
            writer.number(1, (*key).into()).number(2, to.0);
        }
        Expression::CtStatus { to } => {
            writer.number(2, CT_STATUS).number(1, to.0);
        }
        Expression::Lookup {
            set,
            from,
            to,
            negated,
        } => {
            writer.text(1, set).number(2, from.0);
            if let Some(to) = to {
                writer.number(3, to.0);
            }
            if *negated {
                writer.number(5, 1);
            }
        }
        _ => {}
    }
}

fn values(writer: &mut Writer, expression: &Expression) {
    let value = |writer: &mut Writer, kind: u16, bytes: &[u8]| {
        writer.nest(kind, |writer| {
            writer.bytes(data::VALUE, bytes);
        });
    };
    match expression {
        Expression::Load { to, value: bytes } => {
            writer.number(1, to.0);
            value(writer, 2, bytes);
        }
        Expression::Verdict(verdict) => {
            writer.number(1, VERDICT_REGISTER).nest(2, |writer| {
                writer.nest(data::VERDICT, |writer| write_verdict(writer, verdict));
            });
        }
        Expression::Compare {
            from,
            operator,
            value: bytes,
        } => {
            writer.number(1, from.0).number(2, (*operator).into());
            value(writer, 3, bytes);
        }
        Expression::Range {
            from,
            negated,
            low,
            high,
        } => {
            writer.number(1, from.0).number(2, u32::from(*negated));
            value(writer, 3, low);
            value(writer, 4, high);
        }
        Expression::Bitwise {
            from,
            to,
            mask,
            xor,
        } => {
            let length = u32::try_from(mask.len()).unwrap_or(u32::MAX);
            writer.number(1, from.0).number(2, to.0).number(3, length);
            value(writer, 4, mask);
            value(writer, 5, xor);
        }
        _ => {}
    }
}

fn statement(writer: &mut Writer, expression: &Expression) {
    match expression {
        Expression::Forward {
            device,
            address,
            protocol,
        } => {
            writer
                .number(1, device.0)
                .number(2, address.0)
                .number(3, (*protocol).into());
        }
        Expression::Duplicate { address, device } => {
            writer.number(1, address.0).number(2, device.0);
        }
        Expression::SetTransport {
            offset,
            length,
            from,
        } => {
            writer
                .number(2, Base::Transport.into())
                .number(3, *offset)
                .number(4, *length)
                .number(5, from.0)
                .number(6, CHECKSUM_INTERNET)
                .number(7, TCP_CHECKSUM);
        }
        Expression::Tproxy {
            protocol,
            address,
            port,
        } => {
            writer
                .number(1, (*protocol).into())
                .number(2, address.0)
                .number(3, port.0);
        }
        Expression::SourceNat { protocol, address } => {
            writer
                .number(1, SOURCE_NAT)
                .number(2, (*protocol).into())
                .number(3, address.0);
        }
        Expression::RejectWithReset => {
            writer.number(1, REJECT_TCP_RESET);
        }
        _ => {}
    }
}

fn write_verdict(writer: &mut Writer, verdict: &Verdict) {
    let (code, chain) = match verdict {
        Verdict::Drop => (0, None),
        Verdict::Accept => (1, None),
        Verdict::Jump(chain) => ((-3_i32).cast_unsigned(), Some(chain)),
        Verdict::Goto(chain) => ((-4_i32).cast_unsigned(), Some(chain)),
        Verdict::Return => ((-5_i32).cast_unsigned(), None),
        Verdict::Other(code) => (*code, None),
    };
    writer.number(VERDICT_CODE, code);
    if let Some(chain) = chain {
        writer.text(VERDICT_CHAIN, chain);
    }
}
