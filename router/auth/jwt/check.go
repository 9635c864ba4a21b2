package jwt

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// hashBytes is how long an HS secret must be at least (RFC 7518, section 3.2).
var hashBytes = map[string]int{"HS256": 32, "HS384": 48, "HS512": 64}

var algorithms = []string{
	"HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
}

const maxLeeway = 5 * time.Minute

// check says what is missing or contradicts itself.
func (o *Options) check() error {
	if err := o.checkAlgorithms(); err != nil {
		return err
	}
	switch {
	case o.Issuer == "":
		return errors.New("Options.Issuer is empty: name the issuer whose tokens are accepted")
	case len(o.Audience) == 0 || slices.Contains(o.Audience, ""):
		return errors.New("Options.Audience is empty or holds an empty name: name this service as the tokens do")
	case o.Leeway < 0 || o.Leeway > maxLeeway:
		return fmt.Errorf("Options.Leeway is %v: it is from 0 to %v", o.Leeway, maxLeeway)
	case o.KeyFunc == nil && len(o.Keys) == 0:
		return errors.New("Options.Keys and Options.KeyFunc are empty: give one of them")
	case o.KeyFunc != nil && len(o.Keys) > 0:
		return errors.New("Options.Keys and Options.KeyFunc are both set: give one of them")
	}
	return o.checkKeys()
}

func (o *Options) checkAlgorithms() error {
	if len(o.Algorithms) == 0 {
		return fmt.Errorf("Options.Algorithms is empty: list those that are accepted, of %v", algorithms)
	}
	for _, alg := range o.Algorithms {
		if !slices.Contains(algorithms, alg) {
			return fmt.Errorf("Options.Algorithms holds %q: choose from %v", alg, algorithms)
		}
		if symmetric(alg) != symmetric(o.Algorithms[0]) {
			return fmt.Errorf("Options.Algorithms mixes %s and %s: a public key would pass for the shared secret; use two authenticators", o.Algorithms[0], alg)
		}
	}
	return nil
}

// checkKeys wants each key to fit an algorithm, and each algorithm a key.
func (o *Options) checkKeys() error {
	if o.KeyFunc != nil {
		return nil
	}
	for i, key := range o.Keys {
		used := func(alg string) bool { return fits(alg, key) }
		if !slices.ContainsFunc(o.Algorithms, used) {
			return fmt.Errorf("Options.Keys[%d] is a %T, which none of %v verifies with", i, key, o.Algorithms)
		}
		if secret, ok := key.([]byte); ok {
			if err := checkSecret(i, secret, o.Algorithms); err != nil {
				return err
			}
		}
	}
	for _, alg := range o.Algorithms {
		if !slices.ContainsFunc(o.Keys, func(key any) bool { return fits(alg, key) }) {
			return fmt.Errorf("Options.Keys has no key for %s", alg)
		}
	}
	return nil
}

func checkSecret(i int, secret []byte, algorithms []string) error {
	for _, alg := range algorithms {
		if least := hashBytes[alg]; len(secret) < least {
			return fmt.Errorf("Options.Keys[%d] has %d bytes: %s wants at least %d random ones", i, len(secret), alg, least)
		}
	}
	return nil
}
