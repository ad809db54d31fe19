"""The page "SageMaker endpoints" in Airflow's web interface: read-only, from Airflow 3.1 on.

A request arrives at ``lazy_app``, which the plugin registers and which imports the rest when it is first needed;
``app`` checks the user with Airflow's own login and permissions. What it shows comes from two sources:

- ``collection`` asks AWS for the endpoints that our operators made, in each connection and region of ``settings``, with
  short time-outs. ``cache`` keeps the result for half a minute and refreshes it in one background thread, so that the
  web server never waits for AWS longer than a few seconds.
- ``batches`` reads the last batches' XComs from the database of the web server.

``overview`` (pure) has the values and what a user may see of them; ``rendering`` lays them out with
``endpoints.html.jinja``. Read ``overview`` first.
"""
