# nginx with its configuration. Modes are set here: a checkout with umask 077 has files that nginx's user cannot read.
FROM nginx:1.28-alpine
COPY deploy/nginx.conf /etc/nginx/nginx.conf
RUN chmod 0644 /etc/nginx/nginx.conf
USER nginx
EXPOSE 5050 5443
