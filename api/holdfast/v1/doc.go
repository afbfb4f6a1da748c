// Package holdfastv1 is the API of Holdfast in protobuf: the messages of the services HoldMetrics, which an exporter
// serves, and Ingest. Everything but this comment is generated from the proto files beside it, whose comments say what
// a caller can rely on.
package holdfastv1
