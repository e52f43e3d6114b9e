# The image holds one static file: no shell, no package manager, no libc to patch.
#   buildah bud -t localhost/portcullis .        or docker build
# There is no HEALTHCHECK: Kubernetes asks /startup, /ready and /live on port 15021 (deploy/kubernetes).

FROM rust:1.95-bookworm AS build
ARG TARGETARCH
WORKDIR /src
# For bindgen, which reads the headers of PostgreSQL's parser.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends libclang-dev && rm -rf /var/lib/apt/lists/*
COPY . .
# A static glibc: -C target-feature=+crt-static, with --target so that proc macros are still built as libraries.
# No `demo` feature: the embedded S3 store stays out of production.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,id=portcullis-${TARGETARCH} \
    set -eu; \
    case "${TARGETARCH:-$(dpkg --print-architecture)}" in \
      amd64) target=x86_64-unknown-linux-gnu ;; \
      arm64) target=aarch64-unknown-linux-gnu ;; \
      *) echo "no Rust target for ${TARGETARCH}" >&2; exit 1 ;; \
    esac; \
    RUSTFLAGS="-C target-feature=+crt-static" CARGO_PROFILE_RELEASE_STRIP=symbols \
      cargo build --locked --release --bin portcullis --target "$target" \
      --no-default-features --features post-quantum; \
    cp "target/$target/release/portcullis" /portcullis; \
    if ldd /portcullis; then echo "not static" >&2; exit 1; fi

FROM scratch
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="portcullis" \
      org.opencontainers.image.description="A sidecar proxy that decides every request of a data pipeline by verified workload identity and Cedar policy" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.authors="The portcullis authors" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /src/LICENSE /LICENSE
COPY --from=build /portcullis /portcullis
# A number, not a name: runAsNonRoot can be checked without /etc/passwd.
USER 2102:2102
EXPOSE 15021
ENTRYPOINT ["/portcullis"]
CMD ["run", "--config", "/etc/portcullis/portcullis.yaml"]
