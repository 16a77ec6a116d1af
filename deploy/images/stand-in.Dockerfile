# The same image as scripts/images makes, for people who have an engine:
#   docker build -f deploy/images/stand-in.Dockerfile -t sluice.dev/sluice-stand-in:0.1.0 .
FROM docker.io/library/rust:1.95-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends cmake && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
ENV RUSTFLAGS="-C target-feature=+crt-static"
RUN cargo build --locked --release --target x86_64-unknown-linux-gnu -p sluice-tests --bin stand-in-proxy
RUN mkdir -p /root-of-image/etc /root-of-image/usr/local/bin && install -d -m 1777 /root-of-image/tmp \
 && echo 'hosts: files dns' >/root-of-image/etc/nsswitch.conf \
 && printf 'root:x:0:0::/:/sbin/nologin\nsluice:x:65532:65532::/:/sbin/nologin\n' >/root-of-image/etc/passwd

FROM scratch
COPY --from=build /root-of-image /
COPY --from=build /src/target/x86_64-unknown-linux-gnu/release/stand-in-proxy /usr/local/bin/stand-in
USER 0:0
ENTRYPOINT ["/usr/local/bin/stand-in"]
