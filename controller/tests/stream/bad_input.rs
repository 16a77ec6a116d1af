//! Messages that no agent of ours would send.

use sluice_proto::capture::v1::{
    Hello, PodStatus, Rejection, RejectionReason, ResolvePodRequest, StatusReport, Stored,
    StreamCaptureStateRequest, stream_capture_state_request::Message,
};
use tonic::{
    Code, Status, Streaming,
    client::Grpc,
    codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

use crate::harness::{Agent, Controller};

#[tokio::test]
async fn the_first_message_is_hello_and_only_the_first() {
    let controller = Controller::start().await;
    let stored = Message::Stored(Stored::default());
    let client = controller.client("node/a");
    let mut agent = Agent::open(client.clone(), stored).await;
    assert_eq!(agent.end().await.code(), Code::InvalidArgument);

    let mut agent = Agent::open(client.clone(), Message::Status(StatusReport::default())).await;
    assert_eq!(agent.end().await.code(), Code::InvalidArgument);

    let mut agent = controller.agent("a").await;
    agent.snapshot().await.unwrap();
    agent.send(Message::Hello(Hello::default())).await;
    assert_eq!(agent.end().await.code(), Code::InvalidArgument);

    let mut agent = controller.agent("a").await;
    agent.snapshot().await.unwrap();
    let empty = StreamCaptureStateRequest { message: None };
    agent.out.send(empty).await.unwrap();
    assert_eq!(agent.end().await.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn answers_and_reports_are_checked() {
    let controller = Controller::start().await;
    let mut agent = controller.agent("a").await;
    agent.snapshot().await.unwrap();
    let stored = |sequence, rejection| {
        Message::Stored(Stored {
            sequence,
            rejection,
        })
    };
    let rejection = Rejection {
        reason: RejectionReason::Storage.into(),
        message: "x".repeat(100_000),
    };
    agent.send(stored(1, Some(rejection))).await;
    agent.silence().await;
    let node = controller.fleet.node("a").unwrap().stream.unwrap();
    assert_eq!(node.stored, 1);
    assert!(node.last_rejection.unwrap().message.len() <= 1024);
    agent.send(stored(2, None)).await;
    assert_eq!(agent.end().await.code(), Code::InvalidArgument);

    let mut agent = controller.agent("a").await;
    agent.snapshot().await.unwrap();
    let pods = vec![PodStatus::default(); 10_001];
    let report = StatusReport {
        pods,
        ..StatusReport::default()
    };
    agent.send(Message::Status(report)).await;
    assert_eq!(agent.end().await.code(), Code::InvalidArgument);

    let steered_uids = vec![String::new(); 10_001];
    let hello = Hello {
        steered_uids,
        ..Hello::default()
    };
    let mut agent = controller.agent_with("a", hello).await;
    assert_eq!(agent.end().await.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn oversized_messages() {
    let controller = Controller::start().await;
    let hello = Hello {
        agent_version: "x".repeat(5 << 20),
        ..Hello::default()
    };
    let mut agent = controller.agent_with("a", hello).await;
    assert_eq!(agent.end().await.code(), Code::ResourceExhausted);
    // A unary call is read by the framework, which has its own word for it.
    let question = ResolvePodRequest {
        uid: "x".repeat(5 << 20),
        ..ResolvePodRequest::default()
    };
    let refused = controller.client("node/a").resolve_pod(question).await;
    assert_eq!(refused.unwrap_err().code(), Code::OutOfRange);
    // The connection and the controller are as before.
    let mut agent = controller.agent("a").await;
    agent.snapshot().await.unwrap();
}

/// Ten seconds of silence: an agent that opens a stream says who it is.
#[tokio::test]
async fn a_stream_without_hello_is_ended() {
    let controller = Controller::start().await;
    let mut client = controller.client("node/a");
    let silence = tokio_stream::pending::<StreamCaptureStateRequest>();
    let answer = client.stream_capture_state(silence).await;
    let refused = answer.unwrap().into_inner().message().await.unwrap_err();
    assert_eq!(refused.code(), Code::DeadlineExceeded, "{refused:?}");
}

#[tokio::test]
async fn what_does_not_decode() {
    let controller = Controller::start().await;
    let mut grpc = Grpc::new(controller.channel("node/a"));
    grpc.ready().await.unwrap();
    let path = "/sluice.capture.v1.CaptureDiscoveryService/StreamCaptureState";
    let garbage = tokio_stream::once(vec![0xff_u8; 64]);
    let request = tonic::Request::new(garbage);
    let answer = grpc.streaming(request, path.parse().unwrap(), Raw).await;
    let mut answers: Streaming<Vec<u8>> = answer.unwrap().into_inner();
    let refused = answers.message().await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
}

// Bytes as they are.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        use prost::bytes::BufMut as _;
        dst.put_slice(&item);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        use prost::bytes::Buf as _;
        let bytes = src.chunk().to_vec();
        src.advance(bytes.len());
        Ok(Some(bytes))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}
