package rpc

import (
	"fmt"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Domain is the domain of every ErrorInfo.
const Domain = "holdfast"

// Invalid returns an INVALID_ARGUMENT about a field of the request, by its name in the proto file, with a BadRequest.
func Invalid(field, format string, args ...any) *connect.Error {
	description := fmt.Sprintf(format, args...)
	err := connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("%s: %s", field, description))
	return With(err, &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: field, Description: description}}})
}

// Fail returns an error with an ErrorInfo: the reason, in UPPER_SNAKE_CASE, is for programs, and is never renamed.
func Fail(code connect.Code, reason string, metadata map[string]string, format string, args ...any) *connect.Error {
	err := connect.NewError(code, fmt.Errorf(format, args...))
	return With(err, &errdetails.ErrorInfo{Reason: reason, Domain: Domain, Metadata: metadata})
}

// Retry adds to an error when the client may call again.
func Retry(err *connect.Error, after time.Duration) *connect.Error {
	return With(err, &errdetails.RetryInfo{RetryDelay: durationpb.New(after)})
}

// With adds a detail to an error, and returns it.
func With(err *connect.Error, detail proto.Message) *connect.Error {
	d, failure := connect.NewErrorDetail(detail)
	if failure != nil {
		panic("rpc: a detail that cannot be encoded: " + failure.Error())
	}
	err.AddDetail(d)
	return err
}
