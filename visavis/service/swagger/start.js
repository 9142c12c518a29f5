// The token comes in the fragment, which browsers send to nobody; it stays in this tab, and leaves the address bar.
const given = new URLSearchParams(location.hash.slice(1)).get("token");
if (given) {
  sessionStorage.setItem("visavis-token", given);
  history.replaceState(null, "", location.pathname);
}
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis],
  requestInterceptor: (request) => {
    const token = sessionStorage.getItem("visavis-token");
    if (token && !request.headers.Authorization && new URL(request.url, location.href).origin === location.origin) {
      request.headers.Authorization = `Bearer ${token}`;
    }
    return request;
  },
});
