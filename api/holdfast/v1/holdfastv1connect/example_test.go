package holdfastv1connect_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	v1 "github.com/city-chain/holdfast/api/holdfast/v1"
	"github.com/city-chain/holdfast/api/holdfast/v1/holdfastv1connect"
)

// Reads the whole ranking of this moment, page by page.
func Example() {
	client := holdfastv1connect.NewHoldMetricsClient(http.DefaultClient, "http://127.0.0.1:60051")
	request := &v1.TopNRequest{N: 1000}
	for {
		page, err := client.TopN(context.Background(), connect.NewRequest(request))
		if err != nil {
			log.Fatal(err)
		}
		for _, holder := range page.Msg.Holders {
			fmt.Println(holder.Rank, holder.HolderId, holder.ScoreExact)
		}
		if request.PageToken = page.Msg.NextPageToken; request.PageToken == "" {
			return
		}
	}
}

// Tells a holder that is not there from other failures.
func Example_errors() {
	client := holdfastv1connect.NewHoldMetricsClient(http.DefaultClient, "http://127.0.0.1:60051", connect.WithGRPC())
	_, err := client.Holder(context.Background(), connect.NewRequest(&v1.HolderRequest{HolderId: "nobody"}))
	failure, ok := errors.AsType[*connect.Error](err)
	if !ok {
		return
	}
	for _, detail := range failure.Details() {
		if value, err := detail.Value(); err == nil {
			if info, ok := value.(*errdetails.ErrorInfo); ok && info.Reason == "NO_HOLDER" {
				fmt.Println("nobody has held anything")
			}
		}
	}
}
