use super::*;

#[test]
fn the_table_of_the_protocol() {
    let code = |grpc| match judge(Path::new("/s"), &Status::new(grpc, "why")) {
        Answer::Refused(error) => {
            assert_eq!(error.msg, "why");
            error.code
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(code(Grpc::InvalidArgument), Code::Config);
    assert_eq!(code(Grpc::NotFound), Code::UnknownContainer);
    assert_eq!(code(Grpc::Unavailable), Code::TryLater);
    assert_eq!(code(Grpc::DeadlineExceeded), Code::TryLater);
    assert_eq!(code(Grpc::FailedPrecondition), Code::CannotCapture);
    assert_eq!(code(Grpc::PermissionDenied), Code::NotRoot);
    for other in [
        Grpc::Cancelled,
        Grpc::Unknown,
        Grpc::AlreadyExists,
        Grpc::ResourceExhausted,
        Grpc::Aborted,
        Grpc::OutOfRange,
        Grpc::Unimplemented,
        Grpc::Internal,
        Grpc::DataLoss,
        Grpc::Unauthenticated,
    ] {
        assert_eq!(code(other), Code::Refused, "{other:?}");
    }
}

#[test]
fn a_broken_connection_is_no_answer() {
    let mut status = Status::unavailable("transport");
    status.set_source(std::sync::Arc::new(io::Error::other("reset")));
    assert_eq!(
        judge(Path::new("/s"), &status),
        Answer::Away("/s broke off: reset".into())
    );
}
