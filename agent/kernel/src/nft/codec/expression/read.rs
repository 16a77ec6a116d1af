//! Expressions as the kernel has them.
//!
//! What has an attribute that is not known here is read as
//! [`Expression::Other`], so that it differs from everything that is ours.

use super::{
    super::{
        super::{
            attributes::{Fields, Malformed},
            model::{Base, Expression, Protocol, Register, SocketKey, Verdict},
        },
        data, rule,
    },
    CHECKSUM_INTERNET, CT_STATUS, NAT_ADDRESS, REJECT_TCP_RESET, SOURCE_NAT, TCP_CHECKSUM,
    VERDICT_CHAIN, VERDICT_CODE, VERDICT_REGISTER,
};

/// Reads name and attributes of an expression.
pub(in crate::nft::codec) fn read(bytes: &[u8]) -> Result<Expression, Malformed> {
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
        "payload" if fields.only(&[2, 3, 4, 5, 6, 7, 8]) => set_transport(fields),
        "socket" if fields.only(&[1, 2]) => socket(fields),
        "ct" if fields.only(&[1, 2]) && fields.number(2) == Some(CT_STATUS) => {
            register(fields, 1).map(|to| Expression::CtStatus { to })
        }
        "lookup" if fields.only(&[1, 2, 3, 5]) => lookup(fields),
        "fwd" if fields.only(&[1, 2, 3]) => forward(fields),
        "dup" if fields.only(&[1, 2]) => duplicate(fields),
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

/// With the checksum kept right, as nft does it; anything else is not ours.
fn set_transport(fields: &Fields<'_>) -> Option<Expression> {
    let ours = fields.number(2) == Some(Base::Transport.into())
        && fields.number(6) == Some(CHECKSUM_INTERNET)
        && fields.number(7) == Some(TCP_CHECKSUM)
        && fields.number(8).unwrap_or(0) == 0;
    let expression = Expression::SetTransport {
        offset: fields.number(3)?,
        length: fields.number(4)?,
        from: register(fields, 5)?,
    };
    ours.then_some(expression)
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

fn duplicate(fields: &Fields<'_>) -> Option<Expression> {
    Some(Expression::Duplicate {
        address: register(fields, 1)?,
        device: register(fields, 2)?,
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
