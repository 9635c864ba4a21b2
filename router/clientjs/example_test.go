package clientjs_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/tideway-go/tideway/router/clientjs"
)

func ExampleHandler() {
	mux := http.NewServeMux()
	mux.Handle("GET /tideway/", http.StripPrefix("/tideway/", clientjs.Handler()))

	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest("GET", "/tideway/tideway.js", nil))
	fmt.Println(w.Code, strings.Contains(w.Body.String(), "var Tideway="))
	// Output: 200 true
}
