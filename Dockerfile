# Two stages: the first compiles with everything that development needs, the second carries only what runs.

FROM node:24-bookworm-slim AS build
WORKDIR /taplane
COPY package.json package-lock.json .npmrc ./
RUN npm ci
COPY tsconfig.json tsconfig.build.json ./
COPY scripts scripts
COPY src src
RUN npm run build

FROM node:24-bookworm-slim
WORKDIR /taplane
ENV NODE_ENV=production
# Filters of streams and captures are compiled by libpcap.
RUN apt-get update && apt-get install -y --no-install-recommends libpcap0.8 && rm -rf /var/lib/apt/lists/*
COPY package.json package-lock.json .npmrc LICENSE ./
RUN npm ci --omit=dev && npm cache clean --force
COPY bin bin
COPY proto proto
COPY --from=build /taplane/dist dist
RUN ln -s /taplane/bin/taplane /usr/local/bin/taplane
# Devices need CAP_NET_ADMIN in the network namespace of the host, captures CAP_NET_RAW: docker run --network host --cap-drop ALL
# --cap-add NET_ADMIN --cap-add NET_RAW --device /dev/net/tun -v /var/lib/taplane:/var/lib/taplane -v /run/taplane:/run/taplane
ENTRYPOINT ["taplane"]
CMD ["agent"]
