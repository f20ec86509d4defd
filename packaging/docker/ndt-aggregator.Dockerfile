# The image of ndt-aggregator, out of the binaries of `npm run package`, for both architectures:
#
#   for arch in amd64:x64 arm64:arm64; do
#     docker build --platform "linux/${arch%:*}" --build-arg "ARCH=${arch#*:}" \
#       -f packaging/docker/ndt-aggregator.Dockerfile -t "ndt/ndt-aggregator:0.1.0-${arch%:*}" dist
#   done
#
# It writes to mounted folders alone: run it with a read-only root.
FROM debian:12.11-slim
ARG ARCH=x64
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates libstdc++6 \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt /var/log/apt /var/log/dpkg.log \
 && mkdir -p /var/lib/ndt-aggregator /run/ndt \
 && chown 65532:65532 /var/lib/ndt-aggregator /run/ndt
COPY --chmod=0755 linux-${ARCH}/ndt-aggregator /usr/bin/ndt-aggregator
RUN ln -s ndt-aggregator /usr/bin/ndt-ml
# Where the program unpacks its SQLite addon for a moment: an emptyDir or tmpfs that allows execution.
ENV NDT_RUNTIME_DIR=/run/ndt
USER 65532:65532
WORKDIR /var/lib/ndt-aggregator
EXPOSE 9480 1883 9490
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/ndt-aggregator"]
CMD ["run", "--config", "/etc/ndt/aggregator.json"]
