//! Expressions: one function writes what the other reads.
//!
//! What has an attribute that is not known here is read as
//! [`Expression::Other`], so that it differs from everything that is ours.
//! Attributes go by their numbers in `NFTA_<NAME>_*`: those of one expression are
//! counted from 1, in the order in which nf_tables.h has them.

use super::{
    super::{
        attributes::{Fields, Malformed, Writer},
        model::{Expression, Protocol, Register, SocketKey, Verdict},
    },
    data, rule,
};

const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;
const VERDICT_REGISTER: u32 = 0;
const CT_STATUS: u32 = 2;
const SOURCE_NAT: u32 = 0;
const REJECT_TCP_RESET: u32 = 1;
/// Set by the kernel itself for a translation to an address.
const NAT_ADDRESS: u32 = 1;

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
        | Expression::Tproxy { .. }
        | Expression::SourceNat { .. }
        | Expression::RejectWithReset => statement(writer, expression),
        _ => load(writer, expression),
    });
}

fn name(expression: &Expression) -> &str {
    match expression {
        Expression::Meta { .. } | Expression::SetMeta { .. } => "meta",
        Expression::Payload { .. } => "payload",
        Expression::Socket { .. } => "socket",
        Expression::CtStatus { .. } => "ct",
        Expression::Compare { .. } => "cmp",
        Expression::Range { .. } => "range",
        Expression::Bitwise { .. } => "bitwise",
        Expression::Lookup { .. } => "lookup",
        Expression::Load { .. } | Expression::Verdict(_) => "immediate",
        Expression::Forward { .. } => "fwd",
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

/// Reads name and attributes of an expression.
pub(super) fn read(bytes: &[u8]) -> Result<Expression, Malformed> {
    let fields = Fields::read(bytes)?;
    let name = fields
        .text(rule::EXPRESSION_NAME)
        .ok_or(Malformed("an expression has no name"))?;
    let attributes = fields.get(rule::EXPRESSION_DATA).unwrap_or_default();
    let known = known(&name, &Fields::read(attributes)?)?;
    Ok(known.unwrap_or_else(|| Expression::Other {
        name,
        attributes: attributes.to_vec(),
    }))
}

fn known(name: &str, fields: &Fields<'_>) -> Result<Option<Expression>, Malformed> {
    let known = match name {
        "immediate" => return immediate(fields),
        "cmp" | "range" | "bitwise" => return compared(name, fields),
        "meta" => meta(fields),
        "payload" if fields.only(&[1, 2, 3, 4]) => payload(fields),
        "socket" if fields.only(&[1, 2]) => socket(fields),
        "ct" if fields.only(&[1, 2]) && fields.number(2) == Some(CT_STATUS) => {
            register(fields, 1).map(|to| Expression::CtStatus { to })
        }
        "lookup" if fields.only(&[1, 2, 3, 5]) => lookup(fields),
        "fwd" if fields.only(&[1, 2, 3]) => forward(fields),
        "tproxy" if fields.only(&[1, 2, 3]) => tproxy(fields),
        "nat" => source_nat(fields),
        "reject" if fields.only(&[1]) => {
            (fields.number(1) == Some(REJECT_TCP_RESET)).then_some(Expression::RejectWithReset)
        }
        _ => None,
    };
    Ok(known)
}

fn register(fields: &Fields<'_>, kind: u16) -> Option<Register> {
    fields.number(kind).map(Register)
}

fn protocol(fields: &Fields<'_>, kind: u16) -> Option<Protocol> {
    match fields.number(kind)? {
        2 => Some(Protocol::Ipv4),
        10 => Some(Protocol::Ipv6),
        _ => None,
    }
}

fn meta(fields: &Fields<'_>) -> Option<Expression> {
    let key = fields.number(2)?.into();
    match (register(fields, 1), register(fields, 3)) {
        (Some(to), None) if fields.only(&[1, 2]) => Some(Expression::Meta { key, to }),
        (None, Some(from)) if fields.only(&[2, 3]) => Some(Expression::SetMeta { key, from }),
        _ => None,
    }
}

fn payload(fields: &Fields<'_>) -> Option<Expression> {
    Some(Expression::Payload {
        to: register(fields, 1)?,
        base: fields.number(2)?.into(),
        offset: fields.number(3)?,
        length: fields.number(4)?,
    })
}

fn socket(fields: &Fields<'_>) -> Option<Expression> {
    let key = match fields.number(1)? {
        0 => SocketKey::Transparent,
        2 => SocketKey::Wildcard,
        _ => return None,
    };
    let to = register(fields, 2)?;
    Some(Expression::Socket { key, to })
}

fn lookup(fields: &Fields<'_>) -> Option<Expression> {
    Some(Expression::Lookup {
        set: fields.text(1)?,
        from: register(fields, 2)?,
        to: register(fields, 3),
        negated: match fields.number(5).unwrap_or(0) {
            0 => false,
            1 => true,
            _ => return None,
        },
    })
}

fn forward(fields: &Fields<'_>) -> Option<Expression> {
    Some(Expression::Forward {
        device: register(fields, 1)?,
        address: register(fields, 2)?,
        protocol: protocol(fields, 3)?,
    })
}

fn tproxy(fields: &Fields<'_>) -> Option<Expression> {
    Some(Expression::Tproxy {
        protocol: protocol(fields, 1)?,
        address: register(fields, 2)?,
        port: register(fields, 3)?,
    })
}

/// The kernel repeats the address as the end of its range and adds a flag.
fn source_nat(fields: &Fields<'_>) -> Option<Expression> {
    let address = register(fields, 3)?;
    let ours = fields.only(&[1, 2, 3, 4, 7])
        && fields.number(1) == Some(SOURCE_NAT)
        && register(fields, 4).is_none_or(|end| end == address)
        && fields.number(7).is_none_or(|flags| flags == NAT_ADDRESS);
    let protocol = protocol(fields, 2)?;
    ours.then_some(Expression::SourceNat { protocol, address })
}

fn immediate(fields: &Fields<'_>) -> Result<Option<Expression>, Malformed> {
    let value = fields.nested(2)?;
    let verdict = value.nested(data::VERDICT)?;
    Ok(match (register(fields, 1), value.get(data::VALUE)) {
        _ if !fields.only(&[1, 2]) => None,
        (Some(Register(VERDICT_REGISTER)), None) => read_verdict(&verdict).map(Expression::Verdict),
        (Some(to), Some(value)) => Some(Expression::Load {
            to,
            value: value.to_vec(),
        }),
        _ => None,
    })
}

fn read_verdict(fields: &Fields<'_>) -> Option<Verdict> {
    let chain = || fields.text(VERDICT_CHAIN);
    Some(match fields.number(VERDICT_CODE)? {
        0 => Verdict::Drop,
        1 => Verdict::Accept,
        code => match code.cast_signed() {
            -3 => Verdict::Jump(chain()?),
            -4 => Verdict::Goto(chain()?),
            -5 => Verdict::Return,
            _ => Verdict::Other(code),
        },
    })
}

fn compared(name: &str, fields: &Fields<'_>) -> Result<Option<Expression>, Malformed> {
    let value = |kind| -> Result<Option<Vec<u8>>, Malformed> {
        Ok(fields.nested(kind)?.get(data::VALUE).map(<[u8]>::to_vec))
    };
    let from = register(fields, 1);
    let number = fields.number(2);
    Ok(match name {
        "cmp" if fields.only(&[1, 2, 3]) => {
            let parts = from.zip(number).zip(value(3)?);
            parts.map(|((from, operator), value)| Expression::Compare {
                from,
                operator: operator.into(),
                value,
            })
        }
        "range" if fields.only(&[1, 2, 3, 4]) && number.is_some_and(|number| number < 2) => {
            let parts = from.zip(value(3)?).zip(value(4)?);
            parts.map(|((from, low), high)| Expression::Range {
                from,
                negated: number == Some(1),
                low,
                high,
            })
        }
        // Operation 0 is "mask and xor"; shifts have no mask.
        "bitwise" if fields.only(&[1, 2, 3, 4, 5, 6]) && fields.number(6).unwrap_or(0) == 0 => {
            let parts = from.zip(number).zip(value(4)?).zip(value(5)?);
            parts.map(|(((from, to), mask), xor)| Expression::Bitwise {
                from,
                to: Register(to),
                mask,
                xor,
            })
        }
        _ => None,
    })
}
