// Package holdfastv1connect has the clients and handlers of the services in package holdfastv1, for the protocols gRPC,
// gRPC-Web and Connect. Everything but this comment is generated.
package holdfastv1connect
