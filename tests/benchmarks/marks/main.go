// Go's net/http as an outside mark: main PORT [CERTFILE KEYFILE]
package main

import (
	"log"
	"net/http"
	"os"
)

func main() {
	body := []byte("Hello, world!")
	handler := http.HandlerFunc(func(response http.ResponseWriter, _ *http.Request) {
		response.Header().Set("content-type", "text/plain")
		response.Write(body)
	})
	address := "127.0.0.1:" + os.Args[1]
	if len(os.Args) > 2 {
		log.Fatal(http.ListenAndServeTLS(address, os.Args[2], os.Args[3], handler))
	}
	log.Fatal(http.ListenAndServe(address, handler))
}
