# The image of ndt-agent, out of the binaries of `npm run package`, for both architectures:
#
#   for arch in amd64:x64 arm64:arm64; do
#     docker build --platform "linux/${arch%:*}" --build-arg "ARCH=${arch#*:}" \
#       -f packaging/docker/ndt-agent.Dockerfile -t "ndt/ndt-agent:0.1.0-${arch%:*}" dist
#   done
#
# It writes to mounted folders alone: run it with a read-only root.
FROM debian:12.11-slim
ARG ARCH=x64
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates libstdc++6 \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt /var/log/apt /var/log/dpkg.log \
 && mkdir -p /var/lib/ndt-agent /run/ndt \
 && chown 65532:65532 /var/lib/ndt-agent /run/ndt
COPY --chmod=0755 linux-${ARCH}/ndt-agent /usr/bin/ndt-agent
# Where the program unpacks its SQLite addon for a moment: an emptyDir or tmpfs that allows execution.
ENV NDT_RUNTIME_DIR=/run/ndt
# Its threads share one area of memory, and what is freed goes back to the kernel: up to 1 MB less.
ENV MALLOC_ARENA_MAX=1 MALLOC_MMAP_THRESHOLD_=32768 MALLOC_TRIM_THRESHOLD_=65536 MALLOC_TOP_PAD_=16384
USER 65532:65532
WORKDIR /var/lib/ndt-agent
EXPOSE 9470
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/ndt-agent"]
CMD ["run", "--config", "/etc/ndt/agent.json"]
