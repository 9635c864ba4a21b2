package httpapi

// AppendMessage is for the fuzzer.
var AppendMessage = appendMessage
