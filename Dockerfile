# Two stages: the first has everything that building needs, the second nothing but what scripts/image.ts lays out. There is no shell in it.
# For a build that cannot change, pin the digest too: --build-arg BASE=node:24.21.0-bookworm-slim@sha256:...

ARG BASE=node:24.21.0-bookworm-slim
FROM ${BASE} AS build
WORKDIR /taplane
# Filters of streams and captures are compiled by libpcap; authorities are for TLS to NATS.
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates libpcap0.8 && rm -rf /var/lib/apt/lists/*
COPY package.json package-lock.json .npmrc ./
RUN npm ci
COPY LICENSE tsconfig.json tsconfig.build.json ./
COPY scripts scripts
COPY src src
RUN node scripts/image.ts /image

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=
LABEL org.opencontainers.image.title="taplane" \
      org.opencontainers.image.description="Node agent that creates, persists, addresses and streams TUN/TAP interfaces over gRPC" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /image /
ENV NODE_ENV=production PATH=/usr/local/bin NODE_COMPILE_CACHE=/taplane/compiled
WORKDIR /
# Root without any power but these: docker run --network host --read-only --cap-drop ALL --cap-add NET_ADMIN --cap-add NET_RAW
# --security-opt no-new-privileges --security-opt seccomp=deploy/seccomp/taplane.json --device /dev/net/tun
# -v /var/lib/taplane:/var/lib/taplane -v /run/taplane:/run/taplane
USER 0:0
# The words of bin/taplane, which is for machines with a shell.
ENTRYPOINT ["/usr/local/bin/node", "--max-semi-space-size=4", "--disable-warning=ExperimentalWarning", "/taplane/dist/main.js"]
CMD ["agent"]
