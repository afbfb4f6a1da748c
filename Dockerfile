# All of Holdfast's commands in one image that has nothing else in it, not even a shell. Which one runs is for the
# entrypoint to say:
#
#   docker build -t holdfast .
#   docker run --rm --entrypoint /aggregator holdfast --help

FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags=-s -o /out/ ./cmd/...

FROM scratch
# For TLS to a NATS server whose certificate a public authority has signed.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/ /
USER 65532:65532
ENTRYPOINT ["/holdfast"]
