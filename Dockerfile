# The image of skiff-operator, for those who build with Docker (hack/image makes the same without):
#   docker build --build-arg SDK=<Microsoft's image of the .NET 10 SDK on Debian> --build-arg REVISION=$(git rev-parse HEAD) \
#     --build-arg SKIFF_WASMTIME_SHA256=<of Wasmtime's release, see hack/engine> -t skiff.dev/skiff-operator:0.1.0 .
ARG SDK
FROM ${SDK} AS build
# SKIFF_LIBWASMTIME: a path below /skiff, for an engine library of another patch release
ARG SKIFF_WASMTIME_VERSION SKIFF_WASMTIME_SHA256 SKIFF_LIBWASMTIME
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev zlib1g-dev binutils openssl curl ca-certificates xz-utils && rm -rf /var/lib/apt/lists/*
COPY . /skiff
RUN /skiff/hack/image tree

FROM scratch
ARG REVISION=unknown
LABEL org.opencontainers.image.title=skiff-operator org.opencontainers.image.version=0.1.0 \
  org.opencontainers.image.revision=${REVISION} org.opencontainers.image.licenses=Apache-2.0
COPY --from=build /skiff/out/image/ /
ENTRYPOINT ["/bin/skiff-operator"]
