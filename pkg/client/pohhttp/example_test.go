package pohhttp_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/city-chain/holdfast/pkg/client/collect"
	"github.com/city-chain/holdfast/pkg/client/pohhttp"
)

func ExampleHandler() {
	collector, err := collect.New(collect.Options{Node: "issuer-3"}) // with a Publisher, a Registerer, or both
	if err != nil {
		fmt.Println(err)
		return
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /proofs/{id}", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "proof", r.PathValue("id")) })
	server := httptest.NewServer(pohhttp.Handler(collector, mux, pohhttp.Options{}))
	for _, path := range []string{"/proofs/1", "/proofs/2", "/favicon.ico"} {
		answer, err := http.Get(server.URL + path)
		if err != nil {
			fmt.Println(err)
			return
		}
		answer.Body.Close()
	}
	server.Close() // and wait for the handlers
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	fmt.Println("series:", collector.Stats().Series)
	// Output: series: 2
}
