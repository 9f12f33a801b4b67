# The tree that a node needs, for those who build with Docker:
#   docker build --build-arg SDK=<Microsoft's image of the .NET 10 SDK on Debian> -o out .
ARG SDK
FROM ${SDK} AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev zlib1g-dev binutils && rm -rf /var/lib/apt/lists/*
COPY . /skiff
RUN /skiff/hack/build

FROM scratch
COPY --from=build /skiff/out/bin /bin
COPY --from=build /skiff/out/run /run
