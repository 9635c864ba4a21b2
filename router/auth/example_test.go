package auth_test

import (
	"crypto/subtle"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/router/auth"
)

// A function of one's own: here a key in a header, for programs. An anonymous
// visitor is the zero User; what is wrong is denied.
func ExampleFunc() {
	const key = "correct horse battery staple"
	machines := auth.Func(func(r *http.Request) (consumer.User, error) {
		given := r.Header.Get("X-Api-Key")
		switch {
		case given == "":
			return consumer.User{}, nil
		case subtle.ConstantTimeCompare([]byte(given), []byte(key)) != 1:
			return consumer.User{}, consumer.Deny(http.StatusUnauthorized, "unknown key")
		}
		return consumer.User{ID: "robot"}, nil
	})

	r := httptest.NewRequest("GET", "/ws/", nil)
	for _, given := range []string{"", "guess", key} {
		r.Header.Set("X-Api-Key", given)
		u, err := machines.Authenticate(r)
		fmt.Printf("%q %v\n", u.ID, err)
	}
	// Output:
	// "" <nil>
	// "" consumer: denied with 401: unknown key
	// "robot" <nil>
}

// Several kinds of credentials, and nobody without any:
//
//	router.Options{Authenticate: auth.Required(auth.First(machines, people))}
func ExampleFirst() {
	byHeader := func(name string) auth.Func {
		return func(r *http.Request) (consumer.User, error) { return consumer.User{ID: r.Header.Get(name)}, nil }
	}
	users := auth.Required(auth.First(byHeader("X-Machine"), byHeader("X-Person")))

	r := httptest.NewRequest("GET", "/ws/", nil)
	_, err := users.Authenticate(r)
	fmt.Println(err)

	r.Header.Set("X-Person", "ada")
	u, err := users.Authenticate(r)
	fmt.Println(u.ID, err)
	// Output:
	// consumer: denied with 401: log in first
	// ada <nil>
}
