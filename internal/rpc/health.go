package rpc

import (
	"context"
	"slices"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"

	"github.com/city-chain/holdfast/internal/service"
)

// checker says of every service, and of the process, that it serves as long as it is ready, as /readyz does.
type checker struct {
	health   *service.Health
	services *[]string
}

// Check implements [grpchealth.Checker].
func (c *checker) Check(_ context.Context, request *grpchealth.CheckRequest) (*grpchealth.CheckResponse, error) {
	if request.Service != "" && !slices.Contains(*c.services, request.Service) {
		return nil, Fail(connect.CodeNotFound, "NO_SERVICE", nil, "there is no service %q here; there are %q", request.Service, *c.services)
	}
	if c.health.Err() != nil {
		return &grpchealth.CheckResponse{Status: grpchealth.StatusNotServing}, nil
	}
	return &grpchealth.CheckResponse{Status: grpchealth.StatusServing}, nil
}

// Watch implements [grpchealth.Watcher].
func (c *checker) Watch(_ context.Context, _ *grpchealth.CheckRequest, changed func()) (stop func(), err error) {
	return c.health.Watch(changed), nil
}
